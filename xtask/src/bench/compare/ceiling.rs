//! libtorch alone, through the program `ceiling` of `bench/`: the same model file, no server.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;

use super::Bench;
use super::contestant::Model;
use super::results::Alone;
use super::results::Contest;
use super::results::FUSED;
use super::results::PACKAGE;
use crate::workspace;

/// In which TorchScript is called.
const FORMS: &str = "asLoaded,frozen,optimized,fused,channelsLast";

/// Measures every form, batch size and number of threads once more.
pub(super) fn round(bench: &Bench, model: &Model, contest: &mut Contest) {
    match measure(bench, model) {
        Ok(rows) => {
            for row in rows {
                add(&mut contest.ceiling, row);
            }
            if let Some(best) = contest.best_alone(bench.cores) {
                println!(
                    "    {:20} {:3} threads:     {:8.0} inputs/s as {} in batches of {}",
                    "libtorch alone",
                    best.threads,
                    best.median().unwrap_or_default(),
                    best.form,
                    best.batch
                );
            }
        }
        Err(error) => {
            eprintln!("  libtorch alone: {error:#}");
            contest.ceiling_failure = Some(format!("{error:#}"));
        }
    }
}

fn measure(bench: &Bench, model: &Model) -> Result<Vec<Alone>> {
    let file = model.file.as_ref().context("there is no model file; this is a bug")?;
    let mut rows = call(bench, model, file, FORMS)?;
    if let Some(package) = &model.package {
        rows.extend(call(bench, model, package, PACKAGE)?);
    }
    Ok(rows)
}

/// One request a call on all cores, with so many copies of the model called in turn: microseconds of processor time each.
pub(super) fn cost(bench: &Bench, model: &Model, copies: usize) -> Result<f64> {
    let file = model.file.as_ref().context("there is no model file; this is a bug")?;
    let mut command = program(bench, model, file, FUSED);
    command.args(["--threads", &bench.cores.to_string(), "--batches", "1", "--copies", &copies.to_string()]);
    let per_second = said(&mut command)?.first().and_then(Alone::median).context("the model can't be fused")?;
    Ok(bench.cores as f64 * 1e6 / per_second)
}

fn call(bench: &Bench, model: &Model, file: &Path, forms: &str) -> Result<Vec<Alone>> {
    let mut command = program(bench, model, file, forms);
    let mut threads = vec!["1".to_owned()];
    if bench.cores > 1 {
        threads.push(bench.cores.to_string());
    }
    command.args(["--threads", &threads.join(","), "--batches", bench.plan.batches(model)]);
    said(&mut command)
}

fn program(bench: &Bench, model: &Model, file: &Path, forms: &str) -> Command {
    let mut command = workspace::program(&bench.programs, "ceiling");
    command.arg(file).args(["--forms", forms, "--shape", model.shape]);
    command.args(["--milliseconds", &bench.plan.alone.as_millis().to_string()]);
    command
}

fn said(command: &mut Command) -> Result<Vec<Alone>> {
    let output = command.output().context("the program ceiling can't be started")?;
    if !output.status.success() {
        bail!("the program ceiling failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    read(&String::from_utf8_lossy(&output.stdout))
}

fn add(ceiling: &mut Vec<Alone>, row: Alone) {
    let same = |one: &&mut Alone| (&one.form, one.batch, one.threads) == (&row.form, row.batch, row.threads);
    match ceiling.iter_mut().find(same) {
        Some(known) => {
            known.per_second.extend(row.per_second);
            known.failure = known.failure.take().or(row.failure);
        }
        None => ceiling.push(row),
    }
}

fn read(text: &str) -> Result<Vec<Alone>> {
    let json: Value = serde_json::from_str(text).context("the program ceiling wrote what isn't JSON")?;
    let rows = json.as_array().context("the program ceiling wrote no list")?;
    rows.iter()
        .map(|row| {
            let number =
                |name: &str| row[name].as_u64().with_context(|| format!("the program ceiling wrote no {name}"));
            Ok(Alone {
                form: row["form"].as_str().unwrap_or_default().to_owned(),
                batch: number("batch")?,
                threads: number("threads")?,
                per_second: row["perSecond"].as_f64().into_iter().collect(),
                failure: row["error"].as_str().map(str::to_owned),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_combination_come_together() {
        let round = |per_second: &str, error: &str| {
            let text =
                format!(r#"[{{"form":"frozen","batch":8,"threads":2,"perSecond":{per_second},"error":{error}}}]"#);
            read(&text).unwrap()
        };
        let mut all = Vec::new();
        for row in [round("10.5", "null"), round("12.5", "null"), round("null", "\"no\"")].into_iter().flatten() {
            add(&mut all, row);
        }
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].median(), all[0].failure.as_deref()), (Some(11.5), Some("no")));
        assert!(read("[{}]").unwrap_err().to_string().contains("no batch"));
        assert!(read("oh").is_err());
    }
}
