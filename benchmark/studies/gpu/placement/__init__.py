"""Predict which nodes of exported graphs onnxruntime runs on the CPU of a GPU instance, and what it copies for them.

    python -m benchmark.studies.gpu.placement model_repository --model coffee_ctc

Needs no GPU. `cuda_kernels.json` lists the kernels of onnxruntime's CUDA execution provider. This module follows the
rules of onnxruntime for placing nodes and copying values:

- A node whose operator, version or types have no CUDA kernel runs on the CPU (core/framework/kernel_registry.cc).
- Calculations with shapes run on the CPU, because shapes are in host memory (GetCpuPreferredNodes in
  core/framework/fallback_cpu_capability.cc).
- A value that is needed on the other side is copied (core/optimizer/transformer_memcpy.cc; at the edges of a Loop's
  body, once per iteration: core/providers/cpu/controlflow/loop.cc).

A copy to the device is queued and costs little. A copy to the host waits until the GPU has finished all queued work,
and the GPU is then idle until new work arrives.
"""
