"""CSV and TSV manifests: each bad line costs itself and is named by its number."""

import time
from pathlib import Path

import pytest
from manifest_files import write, write_wav

from nemo_triton.errors import ManifestError
from nemo_triton.manifest import Manifest, Utterance, read_manifest

pytestmark = pytest.mark.fast


def texts(manifest: Manifest) -> list[str | None]:
    return [utterance.text for utterance in manifest.utterances]


def lines(manifest: Manifest) -> list[int]:
    """Line numbers of the problems."""
    return [int(problem.split(": ")[0].rpartition(":")[2]) for problem in manifest.problems]


ROWS = [f"{number}.wav,word {number}" for number in range(10)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('3.wav,"word 3', "not valid CSV (a quote is never closed); close the quotes"),
        ('3.wav,"word" 3', "not valid CSV (',' expected after '\"')"),
        ('"3.wav,word 3', "not valid CSV (a quote is never closed)"),
        ("3.wav,word 3, or more", "has 3 fields, the header has 2; put quotes around a text with a , in it"),
        ('3.wav,"word 3", or more', "has 3 fields, the header has 2"),
        ('3.wav,say "word, 3"', "has 3 fields, the header has 2"),
        (",word 3", "no filename"),
    ],
)
def test_a_bad_row_costs_itself(row: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", *ROWS[:3], row, *ROWS[4:])
    manifest = read_manifest(path)
    assert texts(manifest) == [f"word {number}" for number in range(10) if number != 3]
    assert [utterance.line for utterance in manifest.utterances] == [2, 3, 4, *range(6, 12)]
    [problem] = manifest.problems
    assert problem.startswith(f"{path}:5: ") and says in problem


def test_every_row_may_be_bad_but_one(tmp_path: Path) -> None:
    bad = [f'{number}.wav,"word' for number in range(500)]
    manifest = read_manifest(write(tmp_path / "m.csv", "filename,transcript", *bad, "a.wav,bear"))
    assert (texts(manifest), lines(manifest)) == (["bear"], [*range(2, 502)])


@pytest.mark.parametrize("row", ['a","', 'x,"y', 'a.wav,"y', '"'])
def test_many_open_quotes_are_read_in_linear_time(row: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", "a.wav,bear", *[row] * 50_001)
    started = time.process_time()
    manifest = read_manifest(path)
    assert texts(manifest)[0] == "bear" and lines(manifest)[-1] == 50_003
    assert time.process_time() - started < 20


def test_two_open_quotes_do_not_swallow_the_rows_between(tmp_path: Path) -> None:
    rows = ['a.wav,"two', "b.wav,bear", 'c.wav,six inches"', "d.wav,dog", 'e.wav,"']
    manifest = read_manifest(write(tmp_path / "m.csv", "filename,transcript", *rows))
    assert (texts(manifest), lines(manifest)) == (["bear", 'six inches"', "dog"], [2, 6])


def test_an_open_quote_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", "a.wav,bear", 'b.wav,"dog')
    manifest = read_manifest(path)
    assert (texts(manifest), lines(manifest)) == (["bear"], [3])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_line_breaks(end: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    text = end.join(["two", "", "lines, or", "three"])
    rows = ["filename,transcript", f'a.wav,"{text}"', "b.wav,bear", "c.wav,x,y"]
    path.write_bytes(end.join(rows).encode())
    manifest = read_manifest(path)
    assert (texts(manifest), lines(manifest)) == ([text, "bear"], [7])
    assert [utterance.line for utterance in manifest.utterances] == [2, 6]


@pytest.mark.parametrize(("count", "problems"), [(100, []), (101, [3])])
def test_the_longest_record(count: int, problems: list[int], tmp_path: Path) -> None:
    text = "\n".join(["word"] * count)
    manifest = read_manifest(write(tmp_path / "m.csv", "filename,transcript", "a.wav,bear", f'b.wav,"{text}"', "c,d"))
    assert (text in texts(manifest)) is not bool(problems)
    assert lines(manifest) == problems and texts(manifest)[0] == "bear" and texts(manifest)[-1] == "d"


def test_a_quote_inside_a_text(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", 'a.wav,"say ""two"""', 'b.wav,5" pipe')
    assert texts(read_manifest(path)) == ['say "two"', '5" pipe']


def test_empty_fields_at_the_end_are_no_problem(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path / "m.csv", "filename,transcript", "a.wav,bear,,", "", "  ", "b.wav"))
    assert (texts(manifest), manifest.problems) == (["bear", None], [])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_of_empty_fields_cost_nothing(delimiter: str, tmp_path: Path) -> None:
    """As spreadsheets write them below a table."""
    rows = [("filename", "transcript", "id"), ("", "", ""), ("a.wav", "bear", "1"), ("", " ", ""), ('""', "", "")]
    path = write(tmp_path / "m.csv", *map(delimiter.join, rows), delimiter.join(("", "ant", "2")))
    manifest = read_manifest(path, text_required=True)
    assert (texts(manifest), lines(manifest)) == (["bear"], [6])
    with pytest.raises(ManifestError, match="there is no line after the header"):
        read_manifest(write(tmp_path / "m.csv", *map(delimiter.join, rows[:2])))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("Datei,Text", 'the header has "Datei" and "Text"'),
        ("Datei\tText\tDauer", 'the header has "Datei", "Text" and "Dauer"'),
        ("a.wav", 'the header has "a.wav"'),
        ("sep=|\nfile|text;", 'the header has "file" and "text;"'),
        ("a;b;c;d;e;f;g", 'the header has "a", "b", "c", "d", "e" and 2 more'),
        ("x" * 40, f'the header has "{"x" * 30}"'),
    ],
)
def test_a_table_without_audio_names_its_columns(header: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", header, "a.wav,bear")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value) == (
        f"{path}: not a manifest; {says}; one column must be audio_filepath, audio_filename, audio_file, filename, "
        "path, file_name, wav_filename or audio (or give JSON lines)"
    )


def test_columns_between_pipes(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    rows = ["filename | transcript |speaker", 'a.wav | say "two", 5" | awb', 'a.wav|"one|two"|awb', "a.wav|x|y|z"]
    manifest = read_manifest(write(tmp_path / "m.csv", *rows))
    assert manifest.utterances == [Utterance(wav, 'say "two", 5"'), Utterance(wav, "one|two")]
    assert lines(manifest) == [4] and "put quotes around a text with a | in it" in manifest.problems[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter: str, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    rows = [delimiter.join(row) for row in (("filename", "transcript"), ("a.wav", "two and " + delimiter), ("a.wav",))]
    quoted = f'a.wav{delimiter}"one{delimiter} two"'
    path = write(tmp_path / "m.csv", rows[0], quoted, f"a.wav{delimiter}one{delimiter}two", rows[2])
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(wav, f"one{delimiter} two"), Utterance(wav, None)]
    assert lines(manifest) == [3] and "has 3 fields, the header has 2" in manifest.problems[0]


def test_a_semicolon_table_may_have_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename;transcript", "a.wav;one, two", 'b.wav;"three; four"')
    assert texts(read_manifest(path)) == ["one, two", "three; four"]


def test_common_voice(tmp_path: Path) -> None:
    """Columns and folders as in Mozilla's archives."""
    wav = write_wav(tmp_path / "en" / "clips" / "common_voice_en_1.wav")
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
    sentences = [
        '"Hello," he said "again".',
        'He said "no',
        '"""Go"", he said."',
        '"Wholly quoted."',
        "Plain, with comma.",
    ]
    rows = [f"f00\tcommon_voice_en_1.wav\t{sentence}\t2\t0\t\t\t" for sentence in sentences]
    path = write(tmp_path / "en" / "test.tsv", header, *rows, "f00\tcommon_voice_en_1.wav\ta\tb\tc\td\te\tf\tg")
    manifest = read_manifest(path)
    expected = ['"Hello," he said "again".', 'He said "no', '"Go", he said.', "Wholly quoted.", "Plain, with comma."]
    assert manifest.utterances == [Utterance(wav, text) for text in expected]
    assert manifest.problems == [f"{path}:7: has 9 fields, the header has 8; put quotes around a text with a tab in it"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path,sentence", "a.wav,bear"),
        ("file_name,transcription", "a.wav,bear"),
        ("wav_filename,wav_filesize,transcript", "a.wav,364,bear"),
        ("audio_filepath,duration,text", "a.wav,0.01,bear"),
        ("audio_filename,text", "a.wav,bear"),
        ("audio_file,normalized_text", "a.wav,bear"),
        ("id;speaker;filename;text", "1;f;a.wav;bear"),
        ("audio,text", "a.wav,bear"),
        ("audio,path,text", "17,a.wav,bear"),
    ],
)
def test_names_of_columns(header: str, row: str, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    assert read_manifest(write(tmp_path / "m.csv", header, row)).utterances == [Utterance(wav, "bear")]


@pytest.mark.parametrize(
    "header", ["Filename,Transcript", " PATH , TEXT ", '"Audio_FilePath","Text"', "File_Name,\u00a0transcription"]
)
def test_names_of_columns_may_differ_by_case_and_blanks(header: str, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.csv", f"{header},Duration, OFFSET", "a.wav,bear,1.5,0.5", "a.wav,ant,long,0")
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(wav, "bear", offset=0.5)]
    assert manifest.utterances[0].duration == 1.5
    assert manifest.problems == [f'{path}:3: duration is "long"; write seconds, such as 3.5']


def test_a_column_with_its_exact_name_goes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,Text,text,TEXT", "a.wav,Bear!,bear,BEAR")
    assert texts(read_manifest(path)) == ["bear"]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=; ", "\nsep=;"])
def test_the_separator_line_of_excel_is_skipped(first: str, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.csv", first, "filename;transcript", "a.wav;one, two", "a.wav;one;two")
    manifest = read_manifest(path)
    line = 4 + first.count("\n")
    assert (manifest.utterances, lines(manifest)) == ([Utterance(wav, "one, two")], [line])
    assert [utterance.line for utterance in manifest.utterances] == [line - 1]


@pytest.mark.parametrize(("delimiter", "other"), [(",", ";"), (";", ","), ("\t", ","), ("|", ",")])
def test_the_separator_line_of_excel_is_obeyed(delimiter: str, other: str, tmp_path: Path) -> None:
    """Without it, the delimiter that gives more columns is used."""
    rows = [row.replace("+", delimiter).replace("-", other) for row in ("filename-a-b+path", "gone.wav-a-b+a.wav")]
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.csv", f"sep={delimiter}", *rows)
    assert [utterance.audio for utterance in read_manifest(path).utterances] == [wav]
    path = write(tmp_path / "m.csv", *rows)
    assert [utterance.audio.name for utterance in read_manifest(path).utterances] == ["gone.wav"]


def test_a_separator_line_without_a_header_is_refused(tmp_path: Path) -> None:
    for rows in (["sep=;"], ["sep=;", ""], ["sep=;", "words"], ["sep=", "filename"]):
        with pytest.raises(ManifestError, match="not a manifest"):
            read_manifest(write(tmp_path / "m.csv", *rows))


def test_an_audio_object_in_a_table_is_no_path(tmp_path: Path) -> None:
    """As pandas writes Hugging Face's audio."""
    rows = ["a.wav,bear", "\"{'bytes': None, 'path': 'b.wav'}\",ant"]
    path = write(tmp_path / "m.csv", "audio,text", *rows)
    manifest = read_manifest(path)
    assert (texts(manifest), lines(manifest)) == (["bear"], [3])
    assert "; write only the path of the audio file" in manifest.problems[0]
