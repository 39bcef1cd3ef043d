//! From a new build that has settled to the first answer by it.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;

use super::Bench;
use super::picture;
use super::steps::Taken;
use crate::bench::figures::Bar;
use crate::bench::figures::Spread;
use crate::bench::plugin::Build;
use crate::bench::plugin::Plugin;
use crate::bench::report::Section;
use crate::bench::site::Site;
use crate::bench::table::Table;

const BAR: Bar = Bar { limit: 500.0, unit: " ms" };

/// For so long a file must have stayed as it is: the server's own default, said here because it is taken off.
const SETTLE: Duration = Duration::from_millis(100);

pub(super) fn measure(bench: &Bench, taken: &mut Vec<Taken>) -> Result<Section> {
    let repetitions = bench.plan.repetitions;
    let picture = fs::read(picture()).context("the picture can't be read")?;
    let mut plugins = [bench.teller()?, bench.mnist()?];
    let bodies = [b"text".as_slice(), &picture];
    let settle = SETTLE.as_millis().to_string();
    let settings = [("sconce_watch_settle_ms", settle.as_str())];
    let site = Site::start(&bench.programs, &plugins.each_ref(), &settings, &bench.interrupted)?;
    let mut table = Table::new(["model", "new code known by", "ms", "bar", ""]);
    site.during(|site| {
        for (plugin, body) in plugins.iter_mut().zip(bodies) {
            let mut of_this_model =
                Taken::after(site.generation(plugin.model())?, format!("{} at rest", plugin.model()));
            println!("{}: {repetitions} new builds …", plugin.model());
            let times = repeat(site, plugin, body, repetitions, &mut of_this_model)?;
            taken.push(of_this_model);
            if let Some(spread) = Spread::of(times) {
                let known_by = if plugin.tells_its_build() { "its answer" } else { "the generation" };
                let bar = format!("< {} ms", BAR.limit);
                table.row([plugin.model(), known_by, &spread.with_most(0), &bar, &BAR.judge_all(spread)]);
            }
        }
        Ok(())
    })?;
    Ok(Section {
        title: "From a settled file to the first answer by new code",
        method: format!(
            "{repetitions} new builds each, without other load: from the rename to the answer, less the {} ms \
             for which a file must stand still (sconce_watch_settle_ms). The median, and the longest.",
            SETTLE.as_millis()
        ),
        tables: vec![table],
    })
}

/// Milliseconds from settled to answered, of each new build.
fn repeat(
    site: &Site<'_>,
    plugin: &mut Plugin,
    body: &[u8],
    repetitions: usize,
    taken: &mut Taken,
) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let build = plugin.next()?;
        let answered = first_answer(site, plugin, &build, body)?;
        times.push(answered.saturating_sub(SETTLE).as_secs_f64() * 1e3);
        site.wait_for_rest(plugin.model())?;
        taken.add(site.generations(plugin.model())?);
    }
    Ok(times)
}

/// From the moment the build is in place.
fn first_answer(site: &Site<'_>, plugin: &Plugin, build: &Build, body: &[u8]) -> Result<Duration> {
    let model = plugin.model();
    let before = site.generation(model)?;
    let put: Instant = site.put(plugin, build)?;
    site.wait(&format!("an answer by the new build of {model}"), || {
        let is_new = match &build.mark {
            Some(mark) => site.predict(model, body)?.starts_with(mark.as_str()),
            None => {
                let published = site.generation(model)? > before;
                if published {
                    site.predict(model, body)?;
                }
                published
            }
        };
        if !is_new {
            site.check_not_refused(model, before)?;
        }
        Ok(is_new.then(|| put.elapsed()))
    })
}
