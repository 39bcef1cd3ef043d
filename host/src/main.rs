//! The program `sconce`.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Of libtorch and the plugins, too: a model's call takes and frees hundreds of blocks.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    sconce::cli::main()
}
