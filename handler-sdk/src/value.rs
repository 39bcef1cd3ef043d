//! What goes into a model and comes out: a tensor, or a structure of them.

use crate::Error;
use crate::Result;
use crate::Tensor;

/// One tensor, a list of values, or a dict of values by name.
///
/// It is what `preprocess` makes of a request, what a model's `forward` takes and gives, and what `postprocess` reads.
#[derive(Debug, Clone)]
pub enum Value {
    /// One tensor.
    Tensor(Tensor),
    /// A list or a tuple.
    List(Vec<Self>),
    /// A dict, in its own order.
    Dict(Vec<(String, Self)>),
}

// === impl Value ===

impl Value {
    /// The one tensor; fails where the value is a structure, and says which.
    pub fn tensor(self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            other => Err(Error::new(format!("expected one tensor, got {}", other.describe()))),
        }
    }

    /// A look at the one tensor; fails where the value is a structure, and says which.
    pub fn as_tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            other => Err(Error::new(format!("expected one tensor, got {}", other.describe()))),
        }
    }

    /// The value of a dict under `key`; fails where there is none, and says what there is.
    pub fn get(&self, key: &str) -> Result<&Self> {
        match self {
            Self::Dict(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
        .ok_or_else(|| Error::new(format!("the value has no {key:?}: it is {}", self.describe())))
    }

    /// Puts the values of several requests together, as what `forward` is called with.
    ///
    /// Tensors of one shape become one tensor `[n, …]`; lists of `k` values become `k` inputs, dicts one dict, each put together in the same way.
    /// Fails where the requests' values differ in their structure or their shapes.
    pub fn batch(values: Vec<Self>) -> Result<Vec<Self>> {
        match values.first() {
            Some(Self::List(_)) => match Self::merge(values)? {
                Self::List(inputs) => Ok(inputs),
                other => Ok(vec![other]),
            },
            _ => Ok(vec![Self::merge(values)?]),
        }
    }

    fn merge(values: Vec<Self>) -> Result<Self> {
        let first = values.first().map(Self::describe).unwrap_or_default();
        let differ = |other: &Self| Error::new(format!("can't make one batch of {first} and {}", other.describe()));
        let count = values.len();
        match values.first() {
            None | Some(Self::Tensor(_)) => {
                let tensors = values.into_iter().map(|value| match value {
                    Self::Tensor(tensor) => Ok(tensor),
                    other => Err(differ(&other)),
                });
                Ok(Self::Tensor(Tensor::stack(&tensors.collect::<Result<Vec<_>>>()?)?))
            }
            Some(Self::List(items)) => {
                let mut columns: Vec<Vec<Self>> = items.iter().map(|_| Vec::with_capacity(count)).collect();
                for value in values {
                    match value {
                        Self::List(items) if items.len() == columns.len() => {
                            columns.iter_mut().zip(items).for_each(|(column, item)| column.push(item));
                        }
                        other => return Err(differ(&other)),
                    }
                }
                Ok(Self::List(columns.into_iter().map(Self::merge).collect::<Result<_>>()?))
            }
            Some(Self::Dict(entries)) => {
                let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
                let rows = values.into_iter().map(|value| match value {
                    Self::Dict(entries) if entries.iter().map(|(name, _)| name).eq(&names) => {
                        Ok(Self::List(entries.into_iter().map(|(_, value)| value).collect()))
                    }
                    other => Err(differ(&other)),
                });
                match Self::merge(rows.collect::<Result<_>>()?)? {
                    Self::List(columns) => Ok(Self::Dict(names.into_iter().zip(columns).collect())),
                    other => Ok(other),
                }
            }
        }
    }

    /// Splits a batch's value into one value a request, along the first dimension of each tensor.
    ///
    /// A list of exactly `count` values that aren't tensors (one dict a picture, say) is taken as one value a request.
    /// Fails where a first dimension isn't `count`.
    pub fn split(self, count: usize) -> Result<Vec<Self>> {
        match self {
            Self::Tensor(tensor) => {
                let shape = tensor.shape();
                if shape.first().and_then(|&length| usize::try_from(length).ok()) != Some(count) {
                    return Err(Error::new(format!(
                        "the model answered {count} requests with a tensor of shape {shape:?}: its first dimension must be {count}"
                    )));
                }
                Ok(tensor.unbind()?.into_iter().map(Self::Tensor).collect())
            }
            Self::List(items) if items.len() == count && !items.iter().any(|item| matches!(item, Self::Tensor(_))) => {
                Ok(items)
            }
            Self::List(items) => transpose(items, count, Self::List),
            Self::Dict(entries) => {
                let (names, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
                transpose(values, count, |row| Self::Dict(names.iter().cloned().zip(row).collect()))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tensor(tensor) => format!("a tensor of shape {:?}", tensor.shape()),
            Self::List(items) => format!("a list of {} values", items.len()),
            Self::Dict(entries) => {
                let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
                format!("a dict with {names:?}")
            }
        }
    }
}

/// From one value a column, each for the whole batch, to one row a request.
fn transpose(columns: Vec<Value>, count: usize, row: impl Fn(Vec<Value>) -> Value) -> Result<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> = (0..count).map(|_| Vec::with_capacity(columns.len())).collect();
    for column in columns {
        for (row, value) in rows.iter_mut().zip(column.split(count)?) {
            row.push(value);
        }
    }
    Ok(rows.into_iter().map(row).collect())
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[i64]) -> Value {
        let count: i64 = shape.iter().product();
        let values: Vec<i64> = (0..count).collect();
        Value::Tensor(Tensor::from_slice(shape, &values).unwrap())
    }

    #[test]
    fn a_batch_splits_into_one_value_a_request() {
        let rows = tensor(&[2, 3]).split(2).unwrap();
        assert_eq!(rows[1].clone().tensor().unwrap().to_vec::<i64>().unwrap(), [3, 4, 5]);

        let rows = Value::List(vec![tensor(&[2, 3]), tensor(&[2])]).split(2).unwrap();
        assert!(matches!(&rows[0], Value::List(items) if items.len() == 2));

        let rows = Value::Dict(vec![("out".to_owned(), tensor(&[2, 3]))]).split(2).unwrap();
        assert_eq!(rows[0].get("out").unwrap().clone().tensor().unwrap().shape(), [3]);

        let one_each = Value::List(vec![
            Value::Dict(vec![("boxes".to_owned(), tensor(&[5, 4]))]),
            Value::Dict(vec![("boxes".to_owned(), tensor(&[1, 4]))]),
        ]);
        let rows = one_each.split(2).unwrap();
        assert_eq!(rows[0].get("boxes").unwrap().clone().tensor().unwrap().shape(), [5, 4]);
    }

    #[test]
    fn several_requests_become_one_batch() {
        let shapes = |inputs: Vec<Value>| -> Vec<Vec<i64>> {
            inputs.into_iter().map(|input| input.tensor().unwrap().shape()).collect()
        };
        assert_eq!(shapes(Value::batch(vec![tensor(&[3]), tensor(&[3])]).unwrap()), [[2, 3]]);
        let pair = || Value::List(vec![tensor(&[3]), tensor(&[4])]);
        assert_eq!(shapes(Value::batch(vec![pair(), pair()]).unwrap()), [[2, 3], [2, 4]]);
        let dict = |name: &str| Value::Dict(vec![(name.to_owned(), tensor(&[3]))]);
        let merged = Value::batch(vec![dict("ids"), dict("ids")]).unwrap();
        assert_eq!(merged[0].get("ids").unwrap().clone().tensor().unwrap().shape(), [2, 3]);
        for (values, part) in [
            (vec![tensor(&[3]), tensor(&[4])], "[3] and [4]"),
            (vec![tensor(&[3]), pair()], "a tensor of shape [3] and a list of 2 values"),
            (vec![dict("ids"), dict("mask")], "[\"mask\"]"),
            (vec![], "no tensors"),
        ] {
            let error = Value::batch(values).unwrap_err();
            assert!(error.log_text().contains(part), "{error}");
        }
    }

    #[test]
    fn a_wrong_first_dimension_is_named() {
        let error = tensor(&[3, 2]).split(2).unwrap_err();
        assert!(error.log_text().contains("shape [3, 2]"), "{error}");
        let error = tensor(&[1]).get("out").unwrap_err();
        assert!(error.log_text().contains("a tensor of shape [1]"), "{error}");
    }
}
