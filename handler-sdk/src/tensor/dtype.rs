//! The types of elements and the places where tensors live.

use std::fmt;
use std::str::FromStr;

use serde_json::Value as Json;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // The names are the usual ones.
pub enum DType {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

/// A Rust type that can be a tensor's element.
pub trait Element: Copy + sealed::Sealed {
    /// The same type as a value.
    const DTYPE: DType;
    #[doc(hidden)]
    fn write(self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

/// Where a model and its tensors live: `cpu`, or the CUDA device with that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Device {
    /// The machine's own memory.
    #[default]
    Cpu,
    /// A GPU, numbered as CUDA numbers those visible to the process.
    Cuda(usize),
    /// A kind of device that came after this SDK.
    Other,
}

// === impl DType ===

/// The types with the number by which each crosses the boundary; never renumbered.
const CODES: [(DType, u8, usize); 10] = [
    (DType::Bool, 1, 1),
    (DType::U8, 2, 1),
    (DType::I8, 3, 1),
    (DType::I16, 4, 2),
    (DType::I32, 5, 4),
    (DType::I64, 6, 8),
    (DType::F16, 7, 2),
    (DType::BF16, 8, 2),
    (DType::F32, 9, 4),
    (DType::F64, 10, 8),
];

impl DType {
    /// The size of one element in bytes.
    pub fn size(self) -> usize {
        self.row().2
    }

    #[doc(hidden)]
    pub fn code(self) -> u8 {
        self.row().1
    }

    #[doc(hidden)]
    pub fn from_code(code: u8) -> Option<Self> {
        CODES.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    fn row(self) -> (Self, u8, usize) {
        // Every variant has a row: `tests::every_dtype_has_a_code` holds it.
        CODES[CODES.iter().position(|row| row.0 == self).unwrap_or(0)]
    }

    pub(super) fn to_f64(self, bytes: &[u8]) -> f64 {
        #[allow(clippy::cast_precision_loss)] // Asked for as f64.
        match self {
            Self::Bool | Self::U8 => f64::from(u8::read(bytes)),
            Self::I8 => f64::from(i8::read(bytes)),
            Self::I16 => f64::from(i16::read(bytes)),
            Self::I32 => f64::from(i32::read(bytes)),
            Self::I64 => i64::read(bytes) as f64,
            Self::F16 => f64::from(half_to_f32(u16::from_ne_bytes([bytes[0], bytes[1]]))),
            // A bfloat16 is the upper half of a float32.
            Self::BF16 => f64::from(f32::from_bits(u32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) << 16)),
            Self::F32 => f64::from(f32::read(bytes)),
            Self::F64 => f64::read(bytes),
        }
    }

    pub(super) fn to_json(self, bytes: &[u8]) -> Json {
        match self {
            Self::Bool => Json::from(bytes[0] != 0),
            Self::I64 => Json::from(i64::read(bytes)),
            Self::U8 | Self::I8 | Self::I16 | Self::I32 => {
                #[allow(clippy::cast_possible_truncation)] // These integers fit an f64 exactly.
                Json::from(self.to_f64(bytes) as i64)
            }
            Self::F16 | Self::BF16 | Self::F32 | Self::F64 => Json::from(self.to_f64(bytes)),
        }
    }
}

fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match exponent {
        0 => sign * fraction * 2_f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2_f32.powi(exponent - 15),
    }
}

// === impl Element ===

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
            fn read(bytes: &[u8]) -> Self {
                let mut value = [0; size_of::<$type>()];
                value.copy_from_slice(bytes);
                Self::from_ne_bytes(value)
            }
        }
    )*};
}

element!(u8 => U8, i8 => I8, i16 => I16, i32 => I32, i64 => I64, f32 => F32, f64 => F64);

// === impl Device ===

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Other => f.write_str("another device"),
        }
    }
}

impl FromStr for Device {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if index.parse::<usize>().is_ok() => Ok(Self::Cuda(index.parse()?)),
            _ => Err(crate::Error::new(format!("{text:?} is not a device: use cpu or cuda:0"))),
        }
    }
}
