#!/usr/bin/env bash
# Measure on a GPU machine, what is worth most first: bash benchmark/gpu/measure.sh PACKED RESULTS SECONDS [PYTHON]
# PYTHON has onnxruntime-gpu and the serving environment; NEMO_PYTHON, if set, has PyTorch and NeMo's modules.
set -u
packed=$1 results=$2 seconds=$3 python=${4:-python3}
models=$results/models
mkdir -p "$results"
left() { echo $((seconds - SECONDS)); }
trained=(coffee_ctc coffee_rnnt coffee_ctc_fp16 coffee_rnnt_fp16)
first=(stt_en_conformer_ctc_small stt_en_conformer_ctc_large_fp16 stt_en_citrinet_1024_fp16 stt_en_conformer_transducer_small)
later=(parakeet_ctc_0.6b_fp16 stt_en_conformer_ctc_large stt_en_conformer_ctc_small_fp16 stt_en_fastconformer_ctc_large_fp16
  stt_en_citrinet_1024)
cuts=(--cut 'one group' --cut 'pass 100 s')

"$python" -m benchmark.gpu.unpack "$packed" --out "$models"
"$python" -m benchmark.gpu.texts "${trained[@]}" --repository "$models" --out "$results/texts.json"
"$python" -m benchmark.gpu.stages "${first[@]}" --repository "$models" --out "$results/stages" \
  --batches 3 --seconds 0.3 --slowest 1 "${cuts[@]}" --budget $(($(left) / 3))
"$python" -m benchmark.gpu.sweep stt_en_conformer_ctc_small stt_en_conformer_ctc_large_fp16 --repository "$models" \
  --out "$results/served" --concurrency 16,64,256 --seconds 2.5 --budget $(($(left) / 3))
if [ -n "${NEMO_PYTHON:-}" ]; then
  "$NEMO_PYTHON" -m benchmark.gpu.pytorch_encoder stt_en_conformer_ctc_large stt_en_conformer_ctc_small parakeet_ctc_0.6b \
    stt_en_citrinet_1024 --out "$results/pytorch.json" --batches 3 --seconds 0.3 --budget $(($(left) / 2))
fi
"$python" -m benchmark.gpu.stages "${later[@]}" --repository "$models" --out "$results/stages" \
  --batches 3 --seconds 0.3 --slowest 1 "${cuts[@]}" --no-profile --budget "$(left)"
