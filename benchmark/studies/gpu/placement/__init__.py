"""Which nodes of exported graphs onnxruntime leaves on the CPU of a GPU instance, and what is copied because of it.

    python -m benchmark.studies.gpu.placement model_repository --model coffee_ctc

Needs no GPU. `cuda_kernels.json` has the kernels of onnxruntime's CUDA execution provider, and this module follows the
rules by which onnxruntime places nodes and copies values:

- no kernel for an operator, its version or its types: the CPU (core/framework/kernel_registry.cc)
- calculations with shapes, which are in host memory anyway: the CPU (GetCpuPreferredNodes in
  core/framework/fallback_cpu_capability.cc)
- a value that is needed where it is not: a copy (core/optimizer/transformer_memcpy.cc; at the edges of a Loop's body
  core/providers/cpu/controlflow/loop.cc, once per iteration)

A copy to the device is queued and costs little. A copy to the host makes the host wait until the GPU has done all that
was queued before, and the GPU then waits for new work.
"""
