//! What each swap leaves in memory.

use anyhow::Result;

use super::Bench;
use crate::bench::figures::Bar;
use crate::bench::plugin::Plugin;
use crate::bench::report::Section;
use crate::bench::site::Site;
use crate::bench::table::Table;

/// The growth over some swaps, in bytes.
#[derive(Debug, Clone, Copy)]
struct Growth {
    swaps: u32,
    resident: f64,
    mapped: f64,
}

const POLICIES: [&str; 2] = ["retain", "unmap"];
/// In 1,000 swaps, with `unmap`.
const BAR: Bar = Bar { limit: 20.0, unit: " MB" };
/// Over fewer, what the allocator happens to keep outweighs what a swap leaves.
const ENOUGH: u32 = 100;

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let plan = bench.plan;
    let mut table = Table::new([
        "model",
        "sconce_unload",
        "resident KB a swap",
        "mapped KB a swap",
        "resident MB in 1,000",
        "bar",
        "",
    ]);
    let plugins = [bench.echo()?, bench.mnist()?];
    for policy in POLICIES {
        for plugin in &plugins {
            // A server for each, so that none inherits the other's memory.
            let settings = [("sconce_unload", policy)];
            let site = Site::start(&bench.programs, &[plugin], &settings, &bench.interrupted)?;
            println!("{}, {policy}: {} swaps …", plugin.model(), plan.swaps_before + plan.swaps);
            let growth = site.during(|site| {
                reload(site, plugin, plan.swaps_before)?;
                let before = (site.resident_bytes()?, site.library_bytes()?);
                reload(site, plugin, plan.swaps)?;
                let (resident, mapped) = (site.resident_bytes()? - before.0, site.library_bytes()? - before.1);
                Ok(Growth { swaps: plan.swaps, resident, mapped })
            })?;
            growth.tell(plugin.model(), policy, &mut table);
        }
    }
    Ok(Section {
        title: "Memory",
        method: format!(
            "{} swaps asked for with POST /models/{{model}}/reload, after {} that aren't counted: growth of VmRSS \
             and of sconce_library_bytes_mapped (address space, most of it shared with the file). 1 KB is 1,000 bytes.",
            plan.swaps, plan.swaps_before
        ),
        tables: vec![table],
    })
}

fn reload(site: &Site<'_>, plugin: &Plugin, times: u32) -> Result<()> {
    for _ in 0..times {
        site.reload(plugin.model())?;
        site.check_interrupted()?;
    }
    site.wait_for_rest(plugin.model())
}

// === impl Growth ===

impl Growth {
    fn tell(self, model: &str, policy: &str, table: &mut Table) {
        let each = |bytes: f64| format!("{:.1}", bytes / f64::from(self.swaps) / 1e3);
        let in_a_thousand = self.resident / f64::from(self.swaps) * 1000.0 / 1e6;
        let (bar, judged) = match policy {
            "unmap" if self.swaps < ENOUGH => (format!("< {} MB", BAR.limit), "too few swaps to tell".to_owned()),
            "unmap" => (format!("< {} MB", BAR.limit), BAR.judge(in_a_thousand)),
            _ => (String::new(), String::new()),
        };
        let total = format!("{in_a_thousand:.1}");
        table.row([model, policy, &each(self.resident), &each(self.mapped), &total, &bar, &judged]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_for_one_swap_and_for_a_thousand() {
        let growth = Growth { swaps: 200, resident: 5e6, mapped: 0.0 };
        let mut table = Table::new(["", "", "", "", "", "", ""]);
        growth.tell("echo", "retain", &mut table);
        growth.tell("echo", "unmap", &mut table);
        Growth { swaps: 20, ..growth }.tell("echo", "unmap", &mut table);
        let text = table.markdown();
        assert!(text.contains("| echo | retain | 25.0 | 0.0 | 25.0 |  |  |"), "{text}");
        assert!(text.contains("| echo | unmap | 25.0 | 0.0 | 25.0 | < 20 MB | missed by 5.00 MB (25 %) |"), "{text}");
        assert!(text.ends_with("| < 20 MB | too few swaps to tell |"), "{text}");
    }
}
