//! AVX2 with FMA and F16C: processors since about 2013.
#![allow(unsafe_code, reason = "vector instructions")]
#![allow(clippy::inline_always, reason = "as in `tiles`")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one instruction under the conditions of `Vectors`")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps,
    _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
};

use super::activations::Activations;
use super::panels::Panels;
use super::tiles::{self, Vectors};

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// As of [`tiles::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn multiply(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe { tiles::multiply::<Avx2>(panels, activations, y, stride) };
}

struct Avx2;

// SAFETY: each function is as the trait describes, under its conditions.
unsafe impl Vectors for Avx2 {
    type F32 = __m256;
    type Integers = __m256i;
    /// The even and the odd bytes of each group, in 16 bits.
    type Int8Weights = [__m256i; 2];
    type Int8Values = [__m256i; 2];
    type Int4Operand = __m256i;
    type Int8Activation = i16;

    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m256 {
        unsafe { _mm256_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [__m256; 2] {
        unsafe {
            let pairs = _mm256_loadu_si256(from.cast());
            let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32 as i32));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(second)]
        }
    }

    #[inline(always)]
    unsafe fn store(x: __m256, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn to_f32(x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn int8_weights(from: *const u8) -> [__m256i; 2] {
        unsafe {
            let bytes = _mm256_loadu_si256(from.cast());
            [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)]
        }
    }

    #[inline(always)]
    unsafe fn int8_values(from: *const i16) -> [__m256i; 2] {
        unsafe {
            let pairs = from.cast::<[u8; 4]>();
            [pairs, pairs.add(1)].map(|pair| _mm256_set1_epi32(i32::from_ne_bytes(*pair)))
        }
    }

    #[inline(always)]
    unsafe fn add_int8(sum: __m256i, weights: [__m256i; 2], values: [__m256i; 2]) -> __m256i {
        unsafe {
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights[0], values[0]));
            _mm256_add_epi32(sum, _mm256_madd_epi16(weights[1], values[1]))
        }
    }

    #[inline(always)]
    unsafe fn int4_weights(from: *const u8) -> [__m256i; 2] {
        unsafe {
            let (bytes, mask) = (_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(15));
            [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
        }
    }

    #[inline(always)]
    unsafe fn int4_values(from: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    /// In 16 bits: the sum of a block is at most 8 × 2 × 15 × 127 = 30,480.
    #[inline(always)]
    unsafe fn add_int4(sum: __m256i, weights: __m256i, values: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, values)) }
    }

    #[inline(always)]
    unsafe fn int4_sum(sum: __m256i, correction: i32) -> __m256i {
        unsafe {
            let pairs = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
            _mm256_add_epi32(pairs, _mm256_set1_epi32(correction))
        }
    }
}
