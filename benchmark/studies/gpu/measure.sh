#!/usr/bin/env bash
# Measure on a GPU machine, the most useful measurements first:
#   bash benchmark/studies/gpu/measure.sh PACKED MODELS RESULTS SECONDS [PYTHON]
# PACKED: folder that benchmark.studies.gpu.pack wrote. MODELS, RESULTS: folders to write. PYTHON: the serving environment's.
# NEMO_PYTHON, if set: a Python with PyTorch and NeMo. The exit code is that of the first failed step.
set -u
if [ $# -lt 4 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
packed=$(realpath "$1") models=$(realpath -m "$2") results=$(realpath -m "$3") seconds=$4 python=${5:-python3}
cd "$(dirname "$0")/../../.." || exit 2
mkdir -p "$models" "$results"
code=0
remaining() { echo $((seconds > SECONDS ? seconds - SECONDS : 0)); }
step() { "$@" || { local failed=$?; [ $code -ne 0 ] || code=$failed; }; }
unpack() {
  local patterns=(--model 'audio*' --model 'mel_*')
  for name in "$@"; do patterns+=(--model "$name" --model "${name}_*coder*" --model "${name}_log_probs"); done
  step "$python" -m benchmark.studies.gpu.unpack "$packed" --out "$models" "${patterns[@]}"
}
stages() {
  step "$python" -m benchmark.studies.gpu.stages --repository "$models" --out "$results/stages" --batches 3 --seconds 0.3 --slowest 1 \
    --cut 'pass 150 s' --cut 'pass 300 s' --cut 'one bucket' "$@"
}

sweep() {
  step "$python" -m benchmark.studies.gpu.sweep --repository "$models" --out "$models/served" --seconds 2 \
    --bench '--processes 8 --shared-memory' --budget $(($(remaining) / 2)) "$@"
}

trained=(coffee_ctc coffee_rnnt coffee_ctc_fp16 coffee_rnnt_fp16)
first=(stt_en_conformer_ctc_small stt_en_conformer_ctc_large_fp16 stt_en_citrinet_1024_fp16 stt_en_conformer_transducer_small)
later=(parakeet-ctc-0.6b_fp16 stt_en_conformer_ctc_large stt_en_conformer_ctc_small_fp16 stt_en_citrinet_1024)

unpack "${trained[@]}" "${first[@]}"
step "$python" -m benchmark.studies.gpu.texts "${trained[@]}" --repository "$models" --out "$results/texts.json"
sweep stt_en_conformer_ctc_small --concurrency 256,512 --variant ragged --variant two_encoders
sweep stt_en_conformer_ctc_large_fp16 --concurrency 256,512 --variant fused_features --variant two_fused_encoders
sweep stt_en_conformer_transducer_small --concurrency 256 --variant many_decoders --variant gpu_decoder
sweep stt_en_citrinet_1024_fp16 --concurrency 256
sweep stt_en_conformer_ctc_small --concurrency 64 --variant unbatched
mkdir -p "$results/served" && cp "$models"/served/*.json "$results/served/"
stages "${first[@]}" --budget $(($(remaining) / 2))
if [ -n "${NEMO_PYTHON:-}" ]; then
  step "$NEMO_PYTHON" -m benchmark.studies.gpu.pytorch_encoder stt_en_conformer_ctc_large stt_en_conformer_ctc_small \
    parakeet-ctc-0.6b stt_en_citrinet_1024 --out "$results/pytorch.json" --batches 3 --seconds 0.3 --budget $(($(remaining) / 2))
else
  echo 'NEMO_PYTHON is not set: skipping PyTorch' >&2
fi
if [ "$(remaining)" -gt 60 ]; then
  unpack "${later[@]}"
  stages "${later[@]}" --no-profile --budget "$(remaining)"
fi
exit $code
