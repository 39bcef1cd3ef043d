//! What compiled code takes, and whether a call gives that: the only check there is between a request and memory that isn't the tensor's.
//!
//! PyTorch writes functions into the C++ of a package that check types and sizes; they run only where an environment
//! variable asks for it, raise where a batch of one is given, and say nothing of the number of dimensions, nor of sizes
//! that must be the same. They are read here instead of run, with the lines that take the symbols' values from the inputs.

use std::collections::BTreeMap;
use std::fmt;

use handler_sdk::DType;

use super::PackageError;

/// The tensors of a call, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) struct Inputs(pub(in crate::model) Vec<Input>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) struct Input {
    dtype: DType,
    sizes: Vec<Size>,
    /// In elements; `None` where it depends on sizes.
    pub(in crate::model) strides: Vec<Option<i64>>,
}

/// What a dimension may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Size {
    min: i64,
    max: Option<i64>,
    /// It is the same as one of these, each an input and a dimension; any where there is none.
    same_as: Vec<(usize, usize)>,
}

/// PyTorch's names of element types.
const TYPES: [(&str, DType); 10] = [
    ("bool", DType::Bool),
    ("uint8", DType::U8),
    ("int8", DType::I8),
    ("int16", DType::I16),
    ("int32", DType::I32),
    ("int64", DType::I64),
    ("float16", DType::F16),
    ("bfloat16", DType::BF16),
    ("float32", DType::F32),
    ("float64", DType::F64),
];

/// What PyTorch's compiler writes as the least size where it knows of none: it leaves 0 and 1 out of its proofs, and torch.export itself takes them.
const UNKNOWN_MIN: i64 = 2;

/// What the lines of one check say, by dimension.
#[derive(Debug, Default)]
struct Lines {
    dtype: Option<DType>,
    fixed: BTreeMap<usize, i64>,
    min: BTreeMap<usize, i64>,
    max: BTreeMap<usize, i64>,
    strides: BTreeMap<usize, i64>,
}

// === impl Inputs ===

impl Inputs {
    /// Reads the C++ of a package.
    pub(super) fn read(wrapper: &str) -> Result<Self, PackageError> {
        let names: Vec<&str> = (0..).map_while(|index| name_of(wrapper, index)).collect();
        let mut inputs = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let unreadable = |what: &str| PackageError::inputs(format!("its check of input {index} {what}"));
            let start = format!("static void check_input_{index}(");
            let (_, check) = wrapper.split_once(&start).ok_or_else(|| unreadable("is missing"))?;
            let check = check.split_once("\n}").ok_or_else(|| unreadable("has no end"))?.0;
            inputs.push(Lines::read(check, name).input().map_err(unreadable)?);
        }
        if wrapper.contains(&format!("static void check_input_{}(", names.len())) {
            return Err(PackageError::inputs("there are more checks than inputs"));
        }
        tie(&mut inputs, &bound(wrapper, &names))?;
        Ok(Self(inputs))
    }

    /// Says no where the code may not be called with these; `paths` are the inputs' names.
    pub(in crate::model) fn check(&self, paths: &[String], given: &[(DType, Vec<i64>)]) -> Result<(), String> {
        for ((input, path), (dtype, shape)) in self.0.iter().zip(paths).zip(given) {
            let wrong = |what: String| Err(format!("{path} {what}, and the model takes {input}"));
            if *dtype != input.dtype {
                return wrong(format!("is of {}", type_name(*dtype)));
            }
            if shape.len() != input.sizes.len() {
                return wrong(format!("has the shape {shape:?} of {} dimensions", shape.len()));
            }
            for (place, (size, range)) in shape.iter().zip(&input.sizes).enumerate() {
                if !range.takes(*size) {
                    return wrong(format!("has the shape {shape:?}, whose dimension {place} is {size}"));
                }
            }
        }
        for ((input, path), (_, shape)) in self.0.iter().zip(paths).zip(given) {
            for (place, (size, range)) in shape.iter().zip(&input.sizes).enumerate() {
                let of =
                    |&(index, place): &(usize, usize)| given.get(index).and_then(|other| other.1.get(place)).copied();
                let Some(first) = range.same_as.first() else { continue };
                if !range.same_as.iter().any(|other| of(other) == Some(*size)) {
                    let other = paths.get(first.0).map_or("another input", String::as_str);
                    return Err(format!(
                        "{path} has the shape {shape:?}, whose dimension {place} is {size}, and dimension {} of {other} is {}: the model takes the same size in both",
                        first.1,
                        of(first).unwrap_or_default()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What the compiler calls an input.
fn name_of(wrapper: &str, index: usize) -> Option<&str> {
    let (_, rest) = wrapper.split_once(&format!("inputs_info_[{index}].name = \""))?;
    rest.split_once('"').map(|(name, _)| name)
}

/// The dimensions from which the code takes the values of its symbols.
fn bound(wrapper: &str, names: &[&str]) -> Vec<(usize, usize)> {
    let lines = wrapper.lines().filter_map(|line| line.trim().strip_prefix("int64_t "));
    let places = lines.filter_map(|line| {
        let (_, source) = line.split_once(" = ")?;
        let (name, rest) = source.split_once("_size[")?;
        let input = names.iter().position(|known| *known == name)?;
        Some((input, rest.strip_suffix("];")?.parse().ok()?))
    });
    places.collect()
}

/// Finds for each dimension without a fixed size which symbol it is.
///
/// The code says only where it takes each symbol from; a dimension that is the same symbol has the same bounds.
fn tie(inputs: &mut [Input], bound: &[(usize, usize)]) -> Result<(), PackageError> {
    let sources: Vec<((usize, usize), Size)> = bound
        .iter()
        .filter_map(|&(input, place)| Some(((input, place), inputs.get(input)?.sizes.get(place)?.clone())))
        .collect();
    for (index, input) in inputs.iter_mut().enumerate() {
        for (place, size) in input.sizes.iter_mut().enumerate() {
            if size.is_fixed() || bound.contains(&(index, place)) {
                continue;
            }
            let alike = sources.iter().filter(|(_, source)| (source.min, source.max) == (size.min, size.max));
            size.same_as = alike.map(|source| source.0).collect();
            if size.same_as.is_empty() {
                return Err(PackageError::inputs(format!(
                    "dimension {place} of input {index} follows from other sizes in a way that isn't written there"
                )));
            }
        }
    }
    Ok(())
}

// === impl Input ===

/// As `float32 of shape [1 to 64, 3]`.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.sizes.iter().map(ToString::to_string).collect();
        write!(f, "{} of shape [{}]", type_name(self.dtype), sizes.join(", "))
    }
}

fn type_name(dtype: DType) -> String {
    TYPES.iter().find(|row| row.1 == dtype).map_or_else(|| format!("{dtype:?}"), |row| row.0.to_owned())
}

// === impl Size ===

impl Size {
    fn is_fixed(&self) -> bool {
        self.max == Some(self.min)
    }

    fn takes(&self, size: i64) -> bool {
        size >= self.min && self.max.is_none_or(|max| size <= max)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(f, "{max}"),
            Some(max) => write!(f, "{} to {max}", self.min),
            None => write!(f, "{} or more", self.min),
        }
    }
}

// === impl Lines ===

impl Lines {
    fn read(check: &str, name: &str) -> Self {
        let mut lines = Self::default();
        let (size, stride) = (format!("{name}_size["), format!("{name}_stride["));
        for line in check.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix(&format!("int32_t {name}_expected_dtype = aoti_torch_dtype_")) {
                let name = rest.trim_end_matches("();");
                lines.dtype = TYPES.iter().find(|row| row.0 == name).map(|row| row.1);
            }
            let Some(condition) = line.strip_prefix("if (").and_then(|rest| rest.strip_suffix(") {")) else { continue };
            if let Some((value, place)) = condition.split_once(" != ") {
                lines.fixed.extend(indexed(place, &size, value));
                lines.strides.extend(indexed(place, &stride, value));
            } else if let Some((place, value)) = condition.split_once(" < ") {
                lines.min.extend(indexed(place, &size, value));
            } else if let Some((place, value)) = condition.split_once(" > ") {
                lines.max.extend(indexed(place, &size, value));
            }
        }
        lines
    }

    fn input(self) -> Result<Input, &'static str> {
        let dtype = self.dtype.ok_or("names no element type that can be served")?;
        // Each dimension has a line of its own, if only that of its least size.
        let places = self.fixed.keys().chain(self.min.keys()).chain(self.max.keys()).chain(self.strides.keys());
        let rank = places.max().map_or(0, |last| last + 1);
        let sizes = (0..rank).map(|place| match (self.fixed.get(&place), self.min.get(&place)) {
            (Some(&size), _) => Ok(Size { min: size, max: Some(size), same_as: Vec::new() }),
            (None, Some(&min)) => {
                let min = if min == UNKNOWN_MIN { 1 } else { min };
                Ok(Size { min, max: self.max.get(&place).copied(), same_as: Vec::new() })
            }
            (None, None) => Err("leaves a dimension out: compile it with the default of aot_inductor.check_lowerbound"),
        });
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        let strides = (0..rank).map(|place| self.strides.get(&place).copied()).collect();
        Ok(Input { dtype, sizes, strides })
    }
}

/// The number in brackets, with the value that stands on the other side.
fn indexed(text: &str, before: &str, value: &str) -> Option<(usize, i64)> {
    let place = text.strip_prefix(before)?.strip_suffix(']')?;
    Some((place.parse().ok()?, value.trim_end_matches('L').parse().ok()?))
}
