//! `sconce config`: what a server would go by, and where each value comes from.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::say;
use crate::cli::serve_flags::ServeFlags;
use crate::config::Explained;
use crate::config::Origin;
use crate::config::ServerConfig;
use crate::config::Setting;

/// Shows the configuration that `sconce serve` would have with the same flags, in the same folder and environment.
///
/// Each key is shown with its value and where that comes from: the file with its line, an environment variable, a flag, or the default.
/// What changes nothing is listed with the reason. Secrets are masked.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  sconce config
  sconce config --ts-config config.properties --models all
  sconce config --json | jq -r '.settings[] | select(.from != \"default\") | .key'")]
pub struct ConfigArgs {
    #[command(flatten)]
    flags: ServeFlags,

    /// Write JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Longer values don't push the origin of all others to the right.
const WIDEST: usize = 40;

/// What the configuration is goes to the standard output, warnings to the standard error.
pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    if let Some(missing) = args.flags.missing() {
        anyhow::bail!(missing);
    }
    let mut explained = match ServerConfig::explain(&args.flags.sources()) {
        Ok(explained) => explained,
        Err(error) => {
            eprintln!("Invalid configuration: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    explained.warnings.extend(args.flags.without_effect());
    if args.json {
        say(&format!("{:#}", as_json(&explained)));
    } else {
        say(as_table(&explained).trim_end());
        for warning in &explained.warnings {
            eprintln!("warning: {warning}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_table(explained: &Explained) -> String {
    let file = explained.config.file.as_ref();
    let file = file.map_or("no file was read".to_owned(), |file| format!("the file is {}", file.display()));
    let mut text = format!("# {file}\n");
    let (counts, in_vain): (Vec<_>, Vec<_>) = explained.settings.iter().partition(|s| s.no_effect.is_none());
    let keys = explained.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    let shown = |setting: &Setting| if setting.value.is_empty() { "-".to_owned() } else { setting.value.clone() };
    let lengths = counts.iter().map(|setting| shown(setting).chars().count());
    let values = lengths.filter(|length| *length <= WIDEST).max().unwrap_or(0);
    for setting in counts {
        let _ = writeln!(text, "{:keys$}  {:values$}  {}", setting.key, shown(setting), place(setting));
    }
    if !in_vain.is_empty() {
        text.push_str("\n# of no effect\n");
    }
    for setting in in_vain {
        let why = setting.no_effect.unwrap_or_default();
        let _ = writeln!(text, "{:keys$}  {:values$}  {}: {why}", setting.key, shown(setting), place(setting));
    }
    text
}

fn as_json(explained: &Explained) -> Value {
    let settings = explained.settings.iter().map(|setting| {
        let mut object = Map::new();
        object.insert("key".to_owned(), json!(setting.key));
        object.insert("value".to_owned(), json!(setting.value));
        object.insert("from".to_owned(), json!(kind(setting.origin.as_ref())));
        if setting.origin.is_some() {
            object.insert("place".to_owned(), json!(place(setting)));
        }
        if let Some(why) = setting.no_effect {
            object.insert("noEffect".to_owned(), json!(why));
        }
        Value::Object(object)
    });
    json!({
        "file": explained.config.file,
        "settings": settings.collect::<Vec<_>>(),
        "warnings": explained.warnings,
    })
}

fn kind(origin: Option<&Origin>) -> &'static str {
    match origin {
        None => "default",
        Some(Origin::File { .. }) => "file",
        Some(Origin::Environment { .. }) => "environment",
        Some(Origin::Flag { .. }) => "flag",
    }
}

fn place(setting: &Setting) -> String {
    setting.origin.as_ref().map_or("default".to_owned(), Origin::to_string)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn setting(key: &str, value: &str, origin: Option<Origin>, no_effect: Option<&'static str>) -> Setting {
        Setting { key: key.to_owned(), value: value.to_owned(), origin, no_effect }
    }

    fn explained() -> Explained {
        let in_file = |line| Some(Origin::File { path: PathBuf::from("c.properties"), line });
        Explained {
            config: ServerConfig { file: Some(PathBuf::from("c.properties")), ..ServerConfig::default() },
            settings: vec![
                setting("job_queue_size", "7", Some(Origin::Flag { flag: "--x" }), None),
                setting("model_store", "", None, None),
                setting("load_models", &"m".repeat(60), in_file(3), None),
                setting("io_ratio", "7", in_file(4), Some("it is JVM")),
            ],
            warnings: vec!["w".to_owned()],
        }
    }

    #[test]
    fn a_table_for_people() {
        let long = "m".repeat(60);
        let expected = format!(
            "# the file is c.properties\n\
             job_queue_size  7  flag --x\n\
             model_store     -  default\n\
             load_models     {long}  c.properties, line 3\n\
             \n\
             # of no effect\n\
             io_ratio        7  c.properties, line 4: it is JVM\n"
        );
        assert_eq!(as_table(&explained()), expected);
    }

    #[test]
    fn json_for_programs() {
        let json = as_json(&explained());
        assert_eq!((&json["file"], &json["warnings"]), (&json!("c.properties"), &json!(["w"])));
        assert_eq!(
            json["settings"][0],
            json!({"key": "job_queue_size", "value": "7", "from": "flag", "place": "flag --x"})
        );
        assert_eq!(json["settings"][1], json!({"key": "model_store", "value": "", "from": "default"}));
        assert_eq!(json["settings"][3]["noEffect"], "it is JVM");
    }
}
