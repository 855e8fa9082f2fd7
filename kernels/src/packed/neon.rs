//! NEON: all 64-bit ARM processors; with the dot products of `ARMv8.2` (dotprod) where they are, since about 2018.
#![allow(unsafe_code, reason = "vector instructions")]
#![allow(clippy::inline_always, reason = "as in `tiles`")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one instruction under the conditions of `Vectors`")]

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, vaddq_s32, vandq_u8, vandq_u32, vcvt_f32_f16, vcvtq_f32_s32, vdupq_n_f32,
    vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, veorq_u8, vfmaq_f32, vget_low_s8, vld1_u16, vld1q_f32, vld1q_u8,
    vmull_high_s8, vmull_s8, vmulq_f32, vpadalq_s16, vpaddq_s16, vreinterpret_f16_u16, vreinterpretq_f32_u32,
    vreinterpretq_s8_s32, vreinterpretq_s8_u8, vreinterpretq_u32_u8, vshlq_n_u32, vshrq_n_u8, vst1q_f32,
};
use std::arch::asm;

use super::activations::Activations;
use super::panels::Panels;
use super::tiles::{self, Vectors};

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// As of [`tiles::multiply`].
pub unsafe fn multiply(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe { tiles::multiply::<Neon<false>>(panels, activations, y, stride) };
}

/// As [`multiply`], with dot products of integers in one instruction.
///
/// # Safety
/// As of [`tiles::multiply`].
#[target_feature(enable = "dotprod")]
pub unsafe fn multiply_dotprod(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe { tiles::multiply::<Neon<true>>(panels, activations, y, stride) };
}

struct Neon<const DOTPROD: bool>;

// SAFETY: each function is as the trait describes, under its conditions.
unsafe impl<const DOTPROD: bool> Vectors for Neon<DOTPROD> {
    type F32 = float32x4_t;
    type Integers = int32x4_t;
    /// Without the offset: the instructions multiply integers of the same signedness.
    type Int8Weights = int8x16_t;
    type Int8Values = int8x16_t;
    type Int4Operand = int8x16_t;
    type Int8Activation = i8;

    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> float32x4_t {
        unsafe { vld1q_f32(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> float32x4_t {
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [float32x4_t; 2] {
        unsafe {
            let pairs = vreinterpretq_u32_u8(vld1q_u8(from));
            let second = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
            [vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(second)]
        }
    }

    #[inline(always)]
    unsafe fn store(x: float32x4_t, to: *mut f32) {
        unsafe { vst1q_f32(to, x) }
    }

    #[inline(always)]
    unsafe fn multiply(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> int32x4_t {
        unsafe { vdupq_n_s32(x) }
    }

    #[inline(always)]
    unsafe fn to_f32(x: int32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(x) }
    }

    #[inline(always)]
    unsafe fn int8_weights(from: *const u8) -> int8x16_t {
        unsafe { vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(0x80))) }
    }

    #[inline(always)]
    unsafe fn int8_values(from: *const i8) -> int8x16_t {
        unsafe { splat_group(from) }
    }

    #[inline(always)]
    unsafe fn add_int8(sum: int32x4_t, weights: int8x16_t, values: int8x16_t) -> int32x4_t {
        unsafe { add_dot_products::<DOTPROD>(sum, weights, values) }
    }

    #[inline(always)]
    unsafe fn int4_weights(from: *const u8) -> [int8x16_t; 2] {
        unsafe {
            let bytes = vld1q_u8(from);
            [vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))]
        }
    }

    #[inline(always)]
    unsafe fn int4_values(from: *const i8) -> int8x16_t {
        unsafe { splat_group(from) }
    }

    #[inline(always)]
    unsafe fn add_int4(sum: int32x4_t, weights: int8x16_t, values: int8x16_t) -> int32x4_t {
        unsafe { add_dot_products::<DOTPROD>(sum, weights, values) }
    }

    #[inline(always)]
    unsafe fn int4_sum(sum: int32x4_t, correction: i32) -> int32x4_t {
        unsafe { vaddq_s32(sum, vdupq_n_s32(correction)) }
    }
}

/// # Safety
/// As of [`Vectors`].
#[inline(always)]
unsafe fn splat_group(from: *const i8) -> int8x16_t {
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned())) }
}

/// Adds the dot product of each group of four.
///
/// # Safety
/// As of [`Vectors`]; the processor has dotprod if `DOTPROD`.
#[inline(always)]
unsafe fn add_dot_products<const DOTPROD: bool>(sum: int32x4_t, weights: int8x16_t, values: int8x16_t) -> int32x4_t {
    if !DOTPROD {
        // In 16 bits, the sum of two products is at most 2 × 128 × 127 = 32,512.
        return unsafe {
            let low = vmull_s8(vget_low_s8(weights), vget_low_s8(values));
            vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(weights, values)))
        };
    }
    let mut sum = sum;
    // The intrinsic, `vdotq_s32`, is not stable in Rust 1.95.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {values:v}.16b",
            sum = inout(vreg) sum, weights = in(vreg) weights, values = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
