//! What a model gives back: a tensor, or a structure of them.

use crate::Error;
use crate::Result;
use crate::Tensor;

/// The value of a model's `forward`: one tensor, a list or tuple of values, or a dict of values by name.
#[derive(Debug, Clone)]
pub enum Output {
    /// One tensor.
    Tensor(Tensor),
    /// A list or a tuple.
    List(Vec<Self>),
    /// A dict, in the model's order.
    Dict(Vec<(String, Self)>),
}

// === impl Output ===

impl Output {
    /// The one tensor; fails where the model gave a structure, and says which.
    pub fn tensor(self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            other => Err(Error::new(format!("expected one tensor from the model, got {}", other.describe()))),
        }
    }

    /// The value of a dict under `key`; fails where there is none, and says what there is.
    pub fn get(&self, key: &str) -> Result<&Self> {
        match self {
            Self::Dict(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
        .ok_or_else(|| Error::new(format!("the model's answer has no {key:?}: it is {}", self.describe())))
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
fn transpose(columns: Vec<Output>, count: usize, row: impl Fn(Vec<Output>) -> Output) -> Result<Vec<Output>> {
    let mut rows: Vec<Vec<Output>> = (0..count).map(|_| Vec::with_capacity(columns.len())).collect();
    for column in columns {
        for (row, value) in rows.iter_mut().zip(column.split(count)?) {
            row.push(value);
        }
    }
    Ok(rows.into_iter().map(row).collect())
}

impl From<Tensor> for Output {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[i64]) -> Output {
        let count: i64 = shape.iter().product();
        let values: Vec<i64> = (0..count).collect();
        Output::Tensor(Tensor::from_slice(shape, &values).unwrap())
    }

    #[test]
    fn a_batch_splits_into_one_value_a_request() {
        let rows = tensor(&[2, 3]).split(2).unwrap();
        assert_eq!(rows[1].clone().tensor().unwrap().to_vec::<i64>().unwrap(), [3, 4, 5]);

        let rows = Output::List(vec![tensor(&[2, 3]), tensor(&[2])]).split(2).unwrap();
        assert!(matches!(&rows[0], Output::List(items) if items.len() == 2));

        let rows = Output::Dict(vec![("out".to_owned(), tensor(&[2, 3]))]).split(2).unwrap();
        assert_eq!(rows[0].get("out").unwrap().clone().tensor().unwrap().shape(), [3]);

        let one_each = Output::List(vec![
            Output::Dict(vec![("boxes".to_owned(), tensor(&[5, 4]))]),
            Output::Dict(vec![("boxes".to_owned(), tensor(&[1, 4]))]),
        ]);
        let rows = one_each.split(2).unwrap();
        assert_eq!(rows[0].get("boxes").unwrap().clone().tensor().unwrap().shape(), [5, 4]);
    }

    #[test]
    fn a_wrong_first_dimension_is_named() {
        let error = tensor(&[3, 2]).split(2).unwrap_err();
        assert!(error.log_text().contains("shape [3, 2]"), "{error}");
        let error = tensor(&[1]).get("out").unwrap_err();
        assert!(error.log_text().contains("a tensor of shape [1]"), "{error}");
    }
}
