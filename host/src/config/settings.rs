//! Settings by key, each with where it comes from, read as the types they must have.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::address::Address;
use crate::config::error::ConfigError;
use crate::config::error::Origin;
use crate::config::properties::Property;

/// What is set, the last one winning.
#[derive(Debug, Default)]
pub(super) struct Settings {
    by_key: BTreeMap<String, Property>,
}

// === impl Settings ===

impl Settings {
    /// Returns the setting that had to give way.
    pub(super) fn set(&mut self, property: Property) -> Option<Property> {
        self.by_key.insert(property.key.clone(), property)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Property> {
        self.by_key.values()
    }

    /// The text of a key; one that is empty counts as not set.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let property = self.by_key.get(key)?;
        Some(property.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Where a key was set.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.by_key.get(key).map(|property| &property.origin)
    }

    pub(super) fn address(&self, key: &str, otherwise: Address, port: u16) -> Result<Address, ConfigError> {
        match self.text(key) {
            Some(text) => Address::parse(text, port).map_err(|allowed| self.bad(key, &allowed)),
            None => Ok(otherwise),
        }
    }

    /// A number from `least` to the most that TorchServe's `int` takes.
    pub(super) fn number(&self, key: &str, least: u32) -> Result<Option<u32>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match text.parse::<u32>() {
            Ok(number) if number >= least && number <= i32::MAX as u32 => Ok(Some(number)),
            _ => Err(self.bad(key, &format!("a whole number from {least} to {}", i32::MAX))),
        }
    }

    pub(super) fn size(&self, key: &str, otherwise: usize) -> Result<usize, ConfigError> {
        Ok(self.number(key, 1)?.map_or(otherwise, |number| number as usize))
    }

    pub(super) fn seconds(&self, key: &str, otherwise: u64) -> Result<Duration, ConfigError> {
        let seconds = self.number(key, 1)?.map_or(otherwise, u64::from);
        Ok(Duration::from_secs(seconds))
    }

    /// A time in minutes, as `0.5`.
    pub(super) fn minutes(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let seconds = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0).map(|minutes| minutes * 60.0);
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Some).ok_or_else(|| self.bad(key, "a number of minutes above 0, as 60 or 0.5"))
    }

    pub(super) fn switch(&self, key: &str, otherwise: bool) -> Result<bool, ConfigError> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(otherwise),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    /// The items of a list with commas.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let items = self.text(key).unwrap_or_default().split(',');
        items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn bad(&self, key: &str, allowed: &str) -> ConfigError {
        let property = self.by_key.get(key);
        ConfigError::BadValue {
            origin: property.map_or(Origin::Flag { flag: "" }, |p| p.origin.clone()),
            key: key.to_owned(),
            value: property.map(|p| p.value.clone()).unwrap_or_default(),
            allowed: allowed.to_owned(),
        }
    }
}
