"""Checkpoints that attack the machine which exports them, and the line that the export prints for each."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from architectures import NEW_NEMO
from locations import ROOT

CANARY = "nemo_canary"
"""Module, variable and file of the attacks. A file of this name, wherever it is, shows that an attack worked."""
CONFIG, WEIGHTS, TOKENIZER, VOCABULARY = "model_config.yaml", "model_weights.ckpt", "tokenizer.model", "vocab.txt"

Block = dict[str, Any]
Files = dict[str, bytes]


class RunsCommand:
    """Its pickle runs a command when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {CANARY}",)


def weights(content: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rewritten(archive: bytes, compression: int = zipfile.ZIP_STORED, **pickles: bytes) -> bytes:
    """A file of torch.save with other pickles in it, by name."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(changed, "w", compression) as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, content in (members | {f"archive/{name}.pkl": content for name, content in pickles.items()}).items():
            new.writestr(name, content)
    return changed.getvalue()


CONFIGURATION: Block = {
    "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
    "nemo_version": NEW_NEMO,
    "preprocessor": {"_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor"},
    "encoder": {"_target_": "nemo.collections.asr.modules.ConformerEncoder", "n_layers": 2},
    "decoder": {"_target_": "nemo.collections.asr.modules.RNNTDecoder"},
    "joint": {"_target_": "nemo.collections.asr.modules.RNNTJoint"},
    "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}},
    "tokenizer": {"type": "bpe", "model_path": f"nemo:{TOKENIZER}", "vocab_path": f"nemo:{VOCABULARY}"},
    "optim": {"name": "adamw", "lr": 0.001},
}
SAVED_WEIGHTS = weights(OrderedDict(weight=torch.zeros(2, 2)))
WRITES_A_FILE = "nemo.collections.asr.parts.utils.manifest_utils.write_manifest"
"""A function that NeMo 2.7.3 runs if the config of a layer names it."""


def tokenizer_of(checkpoint: Path) -> bytes:
    with tarfile.open(checkpoint) as archive:
        (member,) = [member for member in archive if member.name.endswith(TOKENIZER)]
        content = archive.extractfile(member)
        assert content is not None
        return content.read()


SAVED_TOKENIZER = tokenizer_of(ROOT / "demo" / "coffee_rnnt.nemo")


def files(
    tokenizer: bytes = SAVED_TOKENIZER, vocabulary: bytes = b"a\n", model_weights: bytes = SAVED_WEIGHTS
) -> Files:
    return {
        CONFIG: yaml.safe_dump(CONFIGURATION).encode(),
        WEIGHTS: model_weights,
        TOKENIZER: tokenizer,
        VOCABULARY: vocabulary,
    }


def add(
    archive: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    archive.addfile(member, io.BytesIO(content))


def archive_of(contents: Files, *more: tuple[Any, ...]) -> bytes:
    """A tar archive of files, and of other members: name, content, kind and link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in contents.items():
            add(archive, name, content)
        for member in more:
            add(archive, *member)
    return packed.getvalue()


def claims(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive whose only member says that it has `size` bytes."""
    member = tarfile.TarInfo("weights")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(10240)


def configured(**changes: object) -> bytes:
    return archive_of(files() | {CONFIG: yaml.safe_dump(CONFIGURATION | changes).encode()})


def with_section(name: str, **changes: object) -> bytes:
    return configured(**{name: CONFIGURATION[name] | changes})


def with_config(text: str) -> bytes:
    return archive_of(files() | {CONFIG: yaml.safe_dump(CONFIGURATION).encode() + text.encode()})


def with_weights(content: bytes) -> bytes:
    return archive_of(files(model_weights=content))


BOMB = "\nb0: &b0 [x, x]\n" + "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 60))
TRUST = "get the checkpoint from a source that you trust"
AGAIN = "get the file again"
NO_PART = f"which is no part of NeMo's recognizers; {TRUST}"
TOO_LARGE = f"unpacks to more than 67 MB, which no weights do; {TRUST}"


@dataclass(frozen=True)
class Hostile:
    """An attack.

    Attributes:
        attack: What the checkpoint has.
        content: Makes the bytes of the .nemo file.
        complaint: What the export prints after the name of the file.
        name: Name of the file.
    """

    attack: str
    content: Callable[[], bytes]
    complaint: str
    name: str = "model.nemo"


ATTACKS = [
    Hostile(
        "a file with `..` in its path",
        lambda: archive_of(files(), (f"../{CANARY}",)),
        f"member ../{CANARY} is outside of the archive; {TRUST}",
    ),
    Hostile(
        "a file with an absolute path",
        lambda: archive_of(files(), (f"/{CANARY}",)),
        f"member /{CANARY} is outside of the archive; {TRUST}",
    ),
    Hostile(
        "a symbolic link, and a file behind it",
        lambda: archive_of(files(), ("out", b"", tarfile.SYMTYPE, ".."), (f"out/{CANARY}",)),
        f"member out is a symbolic link; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "a hard link to a file of this machine",
        lambda: archive_of(files(), ("passwords", b"", tarfile.LNKTYPE, "/etc/passwd")),
        f"member passwords is a hard link; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "a FIFO, which blocks its reader",
        lambda: archive_of({}, (CONFIG, b"", tarfile.FIFOTYPE)),
        f"member {CONFIG} is a FIFO; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "a device",
        lambda: archive_of({}, (WEIGHTS, b"", tarfile.CHRTYPE)),
        f"member {WEIGHTS} is a device; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "a sparse file",
        lambda: claims(2**40, tarfile.GNUTYPE_SPARSE),
        f"member weights is a sparse file; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "two configs, so that the one checked is not the one used",
        lambda: archive_of(files(), (CONFIG, b"{}")),
        f"has two members {CONFIG}; {TRUST}",
    ),
    Hostile(
        "100 MB of zeros, in 0.1 MB of gzip",
        lambda: gzip.compress(archive_of({"zeros": bytes(100_000_000)}), compresslevel=1),
        TOO_LARGE,
    ),
    Hostile("a file of 1 TB, by its header", lambda: claims(2**40), TOO_LARGE),
    Hostile(
        "a file name of 2 MB, which Python would read into memory",
        lambda: claims(2**21, tarfile.GNUTYPE_LONGNAME),
        f"has a header of {2**21} bytes; {TRUST}",
    ),
    Hostile(
        "1,001 files",
        lambda: archive_of({f"{number}": b"" for number in range(1001)}),
        f"has more than 1000 members; {TRUST}",
    ),
    Hostile(
        "escape sequences in a file name",
        lambda: archive_of({}, ("\x1b[2J\n", b"", tarfile.SYMTYPE, CONFIG)),
        f"member \\x1b[2J\\n is a symbolic link; a checkpoint has files only: {TRUST}",
    ),
    Hostile(
        "weights whose pickle runs a command",
        lambda: with_weights(weights(RunsCommand())),
        f"{WEIGHTS} would run posix.system; {TRUST}",
    ),
    Hostile(
        "the same, with the command's name hidden on the stack",
        lambda: with_weights(rewritten(SAVED_WEIGHTS, data=pickle.dumps(RunsCommand(), protocol=4))),
        f"{WEIGHTS} hides the name of what it would run (STACK_GLOBAL); {TRUST}",
    ),
    Hostile(
        "a second pickle beside the one that is checked",
        lambda: with_weights(rewritten(SAVED_WEIGHTS, constants=pickle.dumps(RunsCommand(), protocol=2))),
        f"{WEIGHTS} has no single data.pkl, as a file of torch.save has; {TRUST}",
    ),
    Hostile(
        "a plain pickle as weights",
        lambda: with_weights(pickle.dumps(RunsCommand())),
        f"{WEIGHTS} is not a file of torch.save since PyTorch 1.6 (File is not a zip file); save the checkpoint again "
        "with NeMo",
    ),
    Hostile(
        "weights that are a zip bomb",
        lambda: with_weights(rewritten(SAVED_WEIGHTS, zipfile.ZIP_DEFLATED)),
        f"{WEIGHTS} is a compressed zip archive, torch.save's are not; {TRUST}",
    ),
    Hostile(
        "a class of another module as model",
        lambda: configured(target=f"{CANARY}.EncDecRNNTBPEModel"),
        f"target names {CANARY}.EncDecRNNTBPEModel, {NO_PART}",
    ),
    Hostile(
        "a command as layer",
        lambda: configured(encoder={"_target_": "os.system", "command": f"touch {CANARY}"}),
        f"encoder._target_ names os.system, {NO_PART}",
    ),
    Hostile(
        "a function of NeMo that writes files, as layer",
        lambda: configured(preprocessor={"_target_": WRITES_A_FILE, "output_path": CANARY, "target_manifest": []}),
        f"preprocessor._target_ names {WRITES_A_FILE}, {NO_PART}",
    ),
    Hostile(
        "the same, as a setting of a block of a layer",
        lambda: with_section("encoder", jasper=[{"filters": {"_target_": WRITES_A_FILE, "output_path": CANARY}}]),
        f"encoder.jasper.0.filters._target_ names {WRITES_A_FILE}, {NO_PART}",
    ),
    Hostile(
        "a command in the form of old configs",
        lambda: configured(decoder={"cls": "os.system", "params": {"command": f"touch {CANARY}"}}),
        f"decoder.cls names os.system, {NO_PART}",
    ),
    Hostile(
        "a module as `target` of a layer",
        lambda: configured(joint={"target": f"{CANARY}.Joint"}),
        f"joint.target names {CANARY}.Joint, {NO_PART}",
    ),
    Hostile(
        "a command as optimizer, which the export doesn't need",
        lambda: configured(optim={"_target_": "os.system", "command": f"touch {CANARY}"}),
        f"optim._target_ names os.system, {NO_PART}",
    ),
    Hostile(
        "other instructions to Hydra",
        lambda: with_section("encoder", _partial_=True),
        f"encoder._partial_ is an instruction to Hydra that no recognizer has; {TRUST}",
    ),
    Hostile(
        "an environment variable of this machine",
        lambda: with_section("encoder", activation="${oc.env:HOME}"),
        "encoder.activation is ${oc.env:HOME}; NeMo resolves interpolations when it saves: save it again with NeMo's "
        "save_to",
    ),
    Hostile(
        "a YAML tag that runs a command",
        lambda: with_config(f"\nevil: !!python/object/apply:os.system ['touch {CANARY}']\n"),
        f"{CONFIG} has the YAML tag tag:yaml.org,2002:python/object/apply:os.system; {TRUST}",
    ),
    Hostile(
        "YAML aliases that grow to 2^60 values",
        lambda: with_config(BOMB),
        f"{CONFIG} has the YAML alias *b0; save it again with NeMo's save_to",
    ),
    Hostile(
        "YAML nested 10,000 deep",
        lambda: with_config("\ndeep: " + "[" * 10_000),
        f"{CONFIG} is nested more than 50 deep; {TRUST}",
    ),
    Hostile(
        "a config of 5 MB",
        lambda: with_config("\n#" + "x" * 5_000_000),
        f"{CONFIG} has more than 4 MiB; {TRUST}",
    ),
    Hostile(
        "a tokenizer that is a file of this machine",
        lambda: with_section("tokenizer", model_path="/etc/passwd"),
        f"tokenizer.model_path is /etc/passwd, which is not in the archive; {AGAIN}",
    ),
    Hostile(
        "the same, by a path out of the archive",
        lambda: with_section("tokenizer", vocab_path="nemo:../../etc/passwd"),
        f"tokenizer.vocab_path is nemo:../../etc/passwd, which is outside of the archive; {TRUST}",
    ),
    Hostile(
        "a tokenizer that is a pickle",
        lambda: archive_of(files(tokenizer=pickle.dumps(RunsCommand()))),
        f"{TOKENIZER} (tokenizer.model_path) is not a SentencePiece model; {AGAIN}",
    ),
    Hostile(
        "a vocabulary that is no text",
        lambda: archive_of(files(vocabulary=b"\xff\xfe\x00")),
        f"{VOCABULARY} (tokenizer.vocab_path) is not a text in UTF-8; {AGAIN}",
    ),
    Hostile(
        "a command as tokenizer",
        lambda: with_section("tokenizer", custom_tokenizer={"_target_": "os.system"}),
        f"tokenizer.custom_tokenizer._target_ names os.system, {NO_PART}",
    ),
    Hostile(
        "another checkpoint as language model",
        lambda: configured(decoding={"strategy": "greedy_batch", "greedy": {"ngram_lm_model": "evil.nemo"}}),
        "decoding.greedy.ngram_lm_model names the file evil.nemo, which the export doesn't read; set it to null in the "
        "config",
    ),
    Hostile(
        "a file name that makes the model `..`",
        lambda: archive_of(files()),
        "a recognizer can't be called '..'; rename the file: its name must begin with a letter, a digit or _",
        "...nemo",
    ),
    Hostile(
        "a file name that makes a hidden model",
        lambda: archive_of(files()),
        "a recognizer can't be called '.nemo'; rename the file: its name must begin with a letter, a digit or _",
        ".nemo",
    ),
    Hostile(
        "a file name too long for the parts of a model",
        lambda: archive_of(files()),
        "makes a name of 240 characters; rename the file: with the suffix, at most 200",
        f"{'x' * 240}.nemo",
    ),
    Hostile(
        "a file name of a stage that all models share",
        lambda: archive_of(files()),
        "a recognizer can't be called audio, which is the name of a stage that recognizers share; rename the file or "
        "add a --name-suffix",
        "audio.nemo",
    ),
]  # fmt: skip
