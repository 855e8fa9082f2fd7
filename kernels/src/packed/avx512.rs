//! AVX-512 with BW and VNNI: Intel since 2019 in servers, AMD since 2022.
#![allow(unsafe_code, reason = "vector instructions")]
#![allow(clippy::inline_always, reason = "as in `tiles`")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one instruction under the conditions of `Vectors`")]

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps,
};

use super::activations::Activations;
use super::panels::Panels;
use super::tiles::{self, Vectors};

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// As of [`tiles::multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn multiply(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe { tiles::multiply::<Avx512>(panels, activations, y, stride) };
}

struct Avx512;

// SAFETY: each function is as the trait describes, under its conditions.
unsafe impl Vectors for Avx512 {
    type F32 = __m512;
    type Integers = __m512i;
    type Int8Weights = __m512i;
    type Int8Values = __m512i;
    type Int4Operand = __m512i;
    type Int8Activation = i8;

    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [__m512; 2] {
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let second = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(second)]
        }
    }

    #[inline(always)]
    unsafe fn store(x: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn to_f32(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn int8_weights(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn int8_values(from: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_int8(sum: __m512i, weights: __m512i, values: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, weights, values) }
    }

    #[inline(always)]
    unsafe fn int4_weights(from: *const u8) -> [__m512i; 2] {
        unsafe {
            let (bytes, mask) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
        }
    }

    #[inline(always)]
    unsafe fn int4_values(from: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_int4(sum: __m512i, weights: __m512i, values: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, weights, values) }
    }

    #[inline(always)]
    unsafe fn int4_sum(sum: __m512i, correction: i32) -> __m512i {
        unsafe { _mm512_add_epi32(sum, _mm512_set1_epi32(correction)) }
    }
}
