//! What the promise "old plugins keep loading in newer hosts" rests on: how abi_stable compares a table with the same table grown.

#![allow(unsafe_code, dead_code, unreachable_pub, missing_debug_implementations)] // The derive reads fields in its own way; the tables are compared, never used.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::type_layout::TypeLayout;

mod old {
    #[repr(C)]
    #[derive(abi_stable::StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = TableRef)))]
    #[sabi(missing_field(option))]
    pub struct Table {
        #[sabi(last_prefix_field)]
        pub first: extern "C" fn(u32) -> u32,
    }
}

mod grown {
    #[repr(C)]
    #[derive(abi_stable::StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = TableRef)))]
    #[sabi(missing_field(option))]
    pub struct Table {
        #[sabi(last_prefix_field)]
        pub first: extern "C" fn(u32) -> u32,
        pub second: extern "C" fn(u64),
    }
}

mod changed {
    #[repr(C)]
    #[derive(abi_stable::StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = TableRef)))]
    #[sabi(missing_field(option))]
    pub struct Table {
        #[sabi(last_prefix_field)]
        pub first: extern "C" fn(u64) -> u64,
    }
}

const OLD: &TypeLayout = <old::TableRef as StableAbi>::LAYOUT;
const GROWN: &TypeLayout = <grown::TableRef as StableAbi>::LAYOUT;
const CHANGED: &TypeLayout = <changed::TableRef as StableAbi>::LAYOUT;

#[test]
fn the_older_side_stands_first_in_the_comparison() {
    // The host compares a plugin's layout with its own, in this order.
    assert!(check_layout_compatibility(OLD, GROWN).is_ok(), "an old plugin in a new host");
    assert!(check_layout_compatibility(OLD, OLD).is_ok());
    assert!(check_layout_compatibility(CHANGED, GROWN).is_err(), "a function of another shape");
    // The other way round it would refuse every plugin of before: so `init_root_module` is not what the host calls.
    assert!(check_layout_compatibility(GROWN, OLD).is_err());
}
