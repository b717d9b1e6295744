"""The shares of a GPU's time, from a list of kernels; this needs no GPU."""

import pytest

from benchmarks.gpu_kernels import Kernel, time_shares
from schemas.errors import UserError


def test_the_time_of_a_gpu_is_matrix_products_other_kernels_and_waiting():
    kernels = [
        Kernel("sm90_xmma_gemm_bf16bf16_bf16f32", 100.0, 150.0),
        Kernel("triton_poi_fused_add_leaky_relu_3", 160.0, 180.0),  # starts 10 after the end of the first
        Kernel("void multi_tensor_apply_kernel", 170.0, 190.0),  # half of it overlaps with the second
        Kernel("fmha_cutlassB_bf16_aligned_64x64_k64_sm80", 190.0, 200.0),
        # These names contain a matrix product, but the kernels do not multiply.
        Kernel("triton_poi_fused_convolution_3", 200.0, 205.0),
        Kernel("void convert_to_bf16_kernel", 205.0, 210.0),
        Kernel("triton_tem_fused_addmm_2", 210.0, 240.0),
    ]
    assert time_shares(reversed(kernels)) == pytest.approx(
        {"matrix_multiply_share": 90 / 140, "memory_share": 40 / 140, "launch_share": 10 / 140}
    )
    with pytest.raises(UserError, match="the profiler recorded no kernel"):
        time_shares([])
