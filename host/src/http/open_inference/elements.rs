//! The elements of a tensor: from JSON into memory, and from memory into JSON.

use std::fmt;

use handler_sdk::DType;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::DeserializeSeed;
use serde::de::Error;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::serving::datatype_name;

// The protocol's tensors are little-endian, and go into memory as they come.
const _: () = assert!(cfg!(target_endian = "little"));

/// Memory that is written as a flat JSON list.
///
/// What JSON can't say (NaN and the infinities) becomes `null`.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    pub(super) datatype: DType,
    pub(super) bytes: &'a [u8],
}

/// Reads a JSON list, flat or nested, of exactly `count` elements.
pub(super) fn read(json: &str, datatype: DType, count: usize) -> Result<Vec<u8>, String> {
    // A byte of JSON makes one element at most.
    let mut flat = Flat {
        datatype,
        count,
        bytes: Vec::with_capacity(count.min(json.len()) * datatype.size()),
        lengths: Vec::new(),
        reason: None,
    };
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = Level { flat: &mut flat, depth: 0 }.deserialize(&mut reader);
    if let Err(error) = read {
        return Err(flat.reason.unwrap_or_else(|| error.to_string()));
    }
    let found = flat.bytes.len() / datatype.size();
    if found != count {
        return Err(format!("its data has {found} elements, and its shape has room for {count}"));
    }
    Ok(flat.bytes)
}

/// The elements read so far.
struct Flat {
    datatype: DType,
    count: usize,
    bytes: Vec<u8>,
    /// How long the lists of each depth are; `None` where elements stand.
    lengths: Vec<Option<usize>>,
    reason: Option<String>,
}

/// What stands at one depth: an element or a list.
struct Level<'a> {
    flat: &'a mut Flat,
    depth: usize,
}

/// A JSON value that may be an element.
#[derive(Debug, Clone, Copy)]
enum Scalar {
    Bool(bool),
    Whole(i128),
    Broken(f64),
}

// === impl Level ===

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or a list of them", datatype_name(self.flat.datatype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (flat, depth) = (self.flat, self.depth);
        let mut length = 0;
        while items.next_element_seed(Level { flat, depth: depth + 1 })?.is_some() {
            length += 1;
        }
        flat.level(depth, Some(length)).map_err(A::Error::custom)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(Scalar::Whole(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Broken(value))
    }
}

impl Level<'_> {
    fn put<E: Error>(self, value: Scalar) -> Result<(), E> {
        self.flat.level(self.depth, None).and_then(|()| self.flat.put(value)).map_err(E::custom)
    }
}

// === impl Flat ===

impl Flat {
    /// All that stands at one depth is alike.
    fn level(&mut self, depth: usize, length: Option<usize>) -> Result<(), String> {
        if self.lengths.len() <= depth {
            // Not seen yet: lists end from the inside out, so deeper ones came before.
            self.lengths.resize(depth + 1, UNSEEN);
        }
        if self.lengths[depth] == UNSEEN {
            self.lengths[depth] = length;
        }
        if self.lengths[depth] == length {
            return Ok(());
        }
        Err(self.fail("its data has lists of unequal lengths: a tensor has the same length everywhere".to_owned()))
    }

    fn put(&mut self, value: Scalar) -> Result<(), String> {
        let index = self.bytes.len() / self.datatype.size();
        if index == self.count {
            let count = self.count;
            return Err(self.fail(format!("its data has more elements than its shape has room for, which is {count}")));
        }
        if put(self.datatype, value, &mut self.bytes).is_none() {
            let name = datatype_name(self.datatype);
            return Err(self.fail(format!("element {index} of its data is {value}, which is no {name}")));
        }
        Ok(())
    }

    fn fail(&mut self, reason: String) -> String {
        self.reason.get_or_insert(reason).clone()
    }
}

/// No list is that long.
const UNSEEN: Option<usize> = Some(usize::MAX);

/// Appends a value as an element; `None` where it isn't one.
fn put(datatype: DType, value: Scalar, out: &mut Vec<u8>) -> Option<()> {
    match datatype {
        DType::Bool => out.push(match value {
            Scalar::Bool(value) => value.into(),
            value => value.whole().filter(|number| (0..=1).contains(number))? as u8,
        }),
        DType::U8 => out.extend(u8::try_from(value.whole()?).ok()?.to_ne_bytes()),
        DType::I8 => out.extend(i8::try_from(value.whole()?).ok()?.to_ne_bytes()),
        DType::I16 => out.extend(i16::try_from(value.whole()?).ok()?.to_ne_bytes()),
        DType::I32 => out.extend(i32::try_from(value.whole()?).ok()?.to_ne_bytes()),
        DType::I64 => out.extend(i64::try_from(value.whole()?).ok()?.to_ne_bytes()),
        DType::F64 => out.extend(value.number()?.to_ne_bytes()),
        #[allow(clippy::cast_possible_truncation)] // The client asked for that precision; what is too large is refused.
        DType::F32 => out.extend(Some(value.number()? as f32).filter(|number| number.is_finite())?.to_ne_bytes()),
        #[allow(clippy::cast_possible_truncation)]
        DType::F16 => out.extend(half_of(value.number()? as f32)?.to_ne_bytes()),
        // Binary only.
        _ => return None,
    }
    Some(())
}

/// The nearest float16, to even where two are equally near; `None` where it is too large.
fn half_of(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = u16::try_from((bits >> 16) & 0x8000).ok()?;
    let exponent = (bits >> 23) & 0xff;
    let fraction = bits & 0x7f_ffff;
    // By how much a float16 is shorter: more where it has no leading one, which is below 2^-14.
    let (whole, shift) = match exponent {
        113.. => (((exponent - 112) << 23) | fraction, 13),
        102..113 => (fraction | 0x80_0000, 126 - exponent),
        _ => return Some(sign),
    };
    let rest = whole & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    let down = whole >> shift;
    let rounded = if rest > half || (rest == half && down & 1 == 1) { down + 1 } else { down };
    u16::try_from(rounded).ok().filter(|bits| *bits < 0x7c00).map(|bits| sign | bits)
}

fn float_of(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f32::from(half & 0x3ff) / 1024.0;
    match i32::from((half >> 10) & 0x1f) {
        0 => sign * fraction * 2_f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction) * 2_f32.powi(exponent - 15),
    }
}

// === impl Scalar ===

impl Scalar {
    /// As a whole number, which may be written as 1.0.
    fn whole(self) -> Option<i128> {
        match self {
            Self::Bool(_) => None,
            Self::Whole(value) => Some(value),
            #[allow(clippy::cast_possible_truncation)] // It is whole, and saturates.
            Self::Broken(value) => (value.fract() == 0.0).then_some(value as i128),
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Bool(_) => None,
            #[allow(clippy::cast_precision_loss)] // Asked for as a float.
            Self::Whole(value) => Some(value as f64),
            Self::Broken(value) => Some(value),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
            Self::Broken(value) => value.fmt(f),
        }
    }
}

// === impl Elements ===

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! list {
            ($type:ty) => {
                serializer.collect_seq(self.bytes.as_chunks().0.iter().map(|bytes| <$type>::from_ne_bytes(*bytes)))
            };
        }
        match self.datatype {
            DType::Bool => serializer.collect_seq(self.bytes.iter().map(|&byte| byte != 0)),
            DType::U8 => serializer.collect_seq(self.bytes),
            DType::I8 => list!(i8),
            DType::I16 => list!(i16),
            DType::I32 => list!(i32),
            DType::I64 => list!(i64),
            DType::F16 => {
                let halves = self.bytes.as_chunks().0.iter().map(|bytes| float_of(u16::from_ne_bytes(*bytes)));
                serializer.collect_seq(halves)
            }
            DType::F32 => list!(f32),
            DType::F64 => list!(f64),
            other => Err(serde::ser::Error::custom(format!("JSON has no form for {}", datatype_name(other)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(datatype: DType, json: &str, count: usize) -> Result<String, String> {
        let bytes = read(json, datatype, count)?;
        assert_eq!(bytes.len(), count * datatype.size());
        Ok(serde_json::to_string(&Elements { datatype, bytes: &bytes }).unwrap())
    }

    #[test]
    fn lists_of_every_datatype_come_back_flat() {
        for (datatype, json, count, expected) in [
            (DType::F32, "[1, 2.5, -0.1, 1e-3]", 4, "[1.0,2.5,-0.1,0.001]"),
            (DType::F32, "[[[1, 2]], [[3, 4]]]", 4, "[1.0,2.0,3.0,4.0]"),
            (DType::F32, "7", 1, "[7.0]"),
            (DType::F32, "[]", 0, "[]"),
            (DType::F32, "[[], []]", 0, "[]"),
            (DType::F64, "[0.1, -1e300]", 2, "[0.1,-1e+300]"),
            (DType::F16, "[0.5, 65504, 1e-9]", 3, "[0.5,65504.0,0.0]"),
            (
                DType::I64,
                "[9223372036854775807, -9223372036854775808]",
                2,
                "[9223372036854775807,-9223372036854775808]",
            ),
            (DType::I32, "[2147483647, -1.0]", 2, "[2147483647,-1]"),
            (DType::I16, "[-32768]", 1, "[-32768]"),
            (DType::I8, "[[-128], [127]]", 2, "[-128,127]"),
            (DType::U8, "[0, 255]", 2, "[0,255]"),
            (DType::Bool, "[true, false, 1, 0]", 4, "[true,false,true,false]"),
        ] {
            assert_eq!(there_and_back(datatype, json, count).as_deref(), Ok(expected), "{datatype:?} {json}");
        }
    }

    #[test]
    fn what_is_no_element_is_refused_with_its_place() {
        for (datatype, json, count, said) in [
            (DType::U8, "[1, 256]", 2, "element 1 of its data is 256, which is no UINT8"),
            (DType::U8, "[-1]", 1, "element 0 of its data is -1"),
            (DType::I32, "[1.5]", 1, "element 0 of its data is 1.5, which is no INT32"),
            (DType::I64, "[9223372036854775808]", 1, "no INT64"),
            (DType::F32, "[1e39]", 1, "no FP32"),
            (DType::F32, "[true]", 1, "element 0 of its data is true, which is no FP32"),
            (DType::F16, "[65520]", 1, "element 0 of its data is 65520, which is no FP16"),
            (DType::Bool, "[2]", 1, "no BOOL"),
            (DType::F32, "[1, \"two\"]", 2, "string \"two\", expected FP32 or a list of them"),
            (DType::F32, "[null]", 1, "null, expected FP32"),
            (DType::F32, "{}", 1, "map, expected FP32"),
            (DType::F32, "[1, 2]", 3, "its data has 2 elements, and its shape has room for 3"),
            (DType::F32, "[1, 2]", 1, "more elements than its shape has room for, which is 1"),
            (DType::F32, "[[1, 2], [3]]", 3, "lists of unequal lengths"),
            (DType::F32, "[[1], 2]", 2, "lists of unequal lengths"),
            (DType::F32, "[1, [2]]", 2, "lists of unequal lengths"),
            (DType::F32, "[[], 1]", 1, "lists of unequal lengths"),
        ] {
            let error = read(json, datatype, count).unwrap_err();
            assert!(error.contains(said), "{error:?} should say {said:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep, DType::F32, 1).is_err(), "and the stack holds");
    }

    #[test]
    fn what_json_can_t_say_is_null() {
        let bytes: Vec<u8> = [f32::NAN, f32::INFINITY, 1.0].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let json = serde_json::to_string(&Elements { datatype: DType::F32, bytes: &bytes }).unwrap();
        assert_eq!(json, "[null,null,1.0]");
    }

    #[test]
    fn every_float16_comes_back_as_it_was() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(half_of(float_of(bits)), Some(bits), "{bits:#x}");
        }
        // Halfway between two goes to the even one.
        for (value, bits) in [(1.0 + 1.0 / 2048.0, 0x3c00), (1.0 + 3.0 / 2048.0, 0x3c02), (65519.0, 0x7bff)] {
            assert_eq!(half_of(value), Some(bits), "{value}");
        }
        assert_eq!(half_of(f32::INFINITY), None);
    }
}
