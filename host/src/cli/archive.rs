//! `sconce archive`: makes and shows model archives.

mod inspect;

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::ValueEnum;
use time::OffsetDateTime;

use crate::archive::ArchiveFormat;
use crate::archive::Existing;
use crate::archive::Manifest;
use crate::archive::Member;
use crate::archive::PackRequest;
use crate::archive::Packed;
use crate::archive::Runtime;
use crate::archive::pack;

/// Makes an archive of a model: its weights, its settings and the name of its handler; or shows what is in one.
///
/// The flags are those of torch-model-archiver, and TorchServe opens what is made here.
/// The archive appears under its name only when it is whole.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = EXAMPLES,
    // As Python's argparse has them, which scripts rely on: --serialized for --serialized-file, and the last of two counts.
    infer_long_args = true,
    args_override_self = true,
)]
pub struct ArchiveArgs {
    /// Name of the model, and of the archive: letters, digits, '_', '-' and '.'.
    #[arg(long, required_unless_present = "inspect", help_heading = MODEL)]
    model_name: Option<String>,

    /// Version of the model; any text, as 1.0.
    #[arg(short = 'v', long, required_unless_present = "inspect", help_heading = MODEL)]
    version: Option<String>,

    /// The handler: the name of a plugin's handler, as mnist_digit_classifier, which the
    /// server must have; or, with --runtime LSP, LIBRARY:HANDLER, as
    /// target/release/libmnist_handler:MnistHandler, which packs the library.
    ///
    /// TorchServe's own handlers (base_handler, densenet_handler, image_classifier, image_segmenter,
    /// object_detector, text_classifier, dali_image_classifier, vllm_handler, trt_llm_handler; BaseHandler and
    /// TorchScriptHandler with --runtime LSP) are names, too, and never files.
    /// A Python file (FILE.py, FILE, FILE:FUNCTION) is packed as torch-model-archiver does it, but Sconce doesn't
    /// run it: a plugin's handler of the file's name takes its place.
    #[arg(long, required_unless_present = "inspect", help_heading = MODEL)]
    handler: Option<String>,

    /// Who runs the handler: LSP if the archive carries a native library, else python.
    #[arg(long, value_enum, default_value_t = RuntimeArg::Python, help_heading = MODEL)]
    runtime: RuntimeArg,

    /// File with the weights: TorchScript, an AOTInductor package or a state dict.
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    serialized_file: Option<PathBuf>,

    /// File that describes the model's architecture, for servers that read it.
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    model_file: Option<PathBuf>,

    /// More files, with commas between them: files, folders (all that is in one goes to
    /// the root of the archive) and patterns with *, ? and [].
    ///
    /// Hidden folders, __pycache__ and __MACOSX are left out.
    #[arg(long, value_name = "LIST", help_heading = FILES)]
    extra_files: Option<String>,

    /// YAML file with the model's settings, as batchSize or deviceType; it is checked.
    #[arg(short, long, value_name = "FILE", help_heading = FILES)]
    config_file: Option<PathBuf>,

    /// File of Python requirements, for servers that install them.
    #[arg(short, long, value_name = "FILE", help_heading = FILES)]
    requirements_file: Option<PathBuf>,

    /// Folder to put the archive into; it is made if there is none. The default is the
    /// current folder.
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true, help_heading = ARCHIVE)]
    export_path: PathBuf,

    /// What to make: default is NAME.mar, a compressed zip; zip-store is NAME.mar without
    /// compression, which opens faster; tgz is NAME.tar.gz; no-archive is the folder NAME.
    #[arg(long, value_enum, default_value_t = FormatArg::Default, help_heading = ARCHIVE)]
    archive_format: FormatArg,

    /// Replace an archive of that name. A folder is replaced only if an archiver made it.
    #[arg(short, long, help_heading = ARCHIVE)]
    force: bool,

    /// Make nothing; show what is in this archive, whether all it names is there, and what would serve it.
    #[arg(long, value_name = "ARCHIVE", help_heading = INSPECT, conflicts_with_all = [
        "model_name", "version", "handler", "runtime", "serialized_file", "model_file", "extra_files",
        "config_file", "requirements_file", "export_path", "archive_format", "force",
    ])]
    inspect: Option<PathBuf>,

    /// The server's plugins: the handler is looked up there. No code of a plugin is run.
    #[arg(long, visible_alias = "ppath", value_name = "FOLDER", conflicts_with = "model_name", help_heading = INSPECT)]
    plugins_path: Option<PathBuf>,

    /// Show it as JSON.
    #[arg(long, conflicts_with = "model_name", help_heading = INSPECT)]
    json: bool,
}

/// The groups of `--help`.
const MODEL: &str = "The model";
const FILES: &str = "Its files";
const ARCHIVE: &str = "The archive";
const INSPECT: &str = "Looking into an archive";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuntimeArg {
    Python,
    Python3,
    #[value(name = "LSP")]
    Lsp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Default,
    ZipStore,
    Tgz,
    NoArchive,
}

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples:
  TorchScript weights, for the handler mnist_digit_classifier of the server's plugins:
    sconce archive --model-name mnist --version 1.0 --handler mnist_digit_classifier \\
        --serialized-file mnist.pt --config-file model-config.yaml --export-path model-store

  The handler's library goes into the archive:
    sconce archive --model-name mnist --version 1.0 --runtime LSP \\
        --handler target/release/libmnist_handler:MnistHandler --serialized-file mnist.pt

  With more files: one by name, a folder's content and all that a pattern matches:
    sconce archive --model-name cats --version 2.0 --handler image_classifier \\
        --serialized-file cats.pt --extra-files 'index_to_name.json,labels/,extra/*.txt'

  What is in an archive, and whether a server with these plugins would serve it:
    sconce archive --inspect model-store/mnist.mar --plugins-path plugins

The exit status is 0 where the archive was made, or is whole; 1 where it isn't; 2 for wrong flags.";

/// Does what the flags ask for. What was made or found goes to the standard output, warnings to the standard error.
pub fn run(args: ArchiveArgs) -> anyhow::Result<ExitCode> {
    if let Some(archive) = &args.inspect {
        let look = inspect::look(archive, args.plugins_path.as_deref())?;
        let text = if args.json { look.to_json()? } else { look.to_text() };
        io::stdout().write_all(text.as_bytes())?;
        return Ok(if look.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let packed = pack(&args.into_request(OffsetDateTime::now_utc()))?;
    for warning in &packed.warnings {
        writeln!(io::stderr(), "WARNING - {warning}")?;
    }
    io::stdout().write_all(describe_packed(&packed).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

// === impl ArchiveArgs ===

impl ArchiveArgs {
    fn into_request(self, created_on: OffsetDateTime) -> PackRequest {
        PackRequest {
            // clap has seen to it that these three are given.
            model_name: self.model_name.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            handler: self.handler.unwrap_or_default(),
            serialized_file: self.serialized_file,
            model_file: self.model_file,
            extra_files: self.extra_files,
            runtime: match self.runtime {
                RuntimeArg::Python => Runtime::Python,
                RuntimeArg::Python3 => Runtime::Python3,
                RuntimeArg::Lsp => Runtime::Lsp,
            },
            export_path: self.export_path,
            format: match self.archive_format {
                FormatArg::Default => ArchiveFormat::Mar,
                FormatArg::ZipStore => ArchiveFormat::ZipStore,
                FormatArg::Tgz => ArchiveFormat::Tgz,
                FormatArg::NoArchive => ArchiveFormat::Folder,
            },
            existing: if self.force { Existing::Replace } else { Existing::Refuse },
            requirements_file: self.requirements_file,
            config_file: self.config_file,
            created_on,
        }
    }
}

fn describe_packed(packed: &Packed) -> String {
    let mut text = String::new();
    line(&mut text, "made", &packed.path.display().to_string());
    line(&mut text, "size", &human_size(packed.size));
    line(&mut text, "format", format_of(&packed.path));
    line(&mut text, "model", &model_of(&packed.manifest));
    line(&mut text, "handler", &packed.handler.how_it_is_found());
    line(&mut text, "digest", &packed.digest.to_string());
    text.push_str(&table(&packed.members));
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{name:<9}{value}");
}

fn table(members: &[Member]) -> String {
    let mut text = format!("\n{:>14}  member\n", "bytes");
    for member in members {
        let _ = writeln!(text, "{:>14}  {}", member.size, member.name);
    }
    text
}

fn model_of(manifest: &Manifest) -> String {
    let name = manifest.model.model_name.as_deref();
    format!("{} {}", name.unwrap_or("(named when it is registered)"), manifest.model.model_version)
}

/// What it is by its first bytes: a server unpacks it by them, too, whatever its name.
fn format_of(path: &Path) -> &'static str {
    let mut start = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match start {
        _ if path.is_dir() => "folder",
        [0x1f, 0x8b] => "gzipped tar",
        _ if read.is_ok() => "zip",
        _ => "unknown",
    }
}

fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = None;
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = Some(next);
    }
    match unit {
        Some(unit) => format!("{size:.1} {unit} ({bytes} bytes)"),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_version_flag = true)]
    struct Command {
        #[command(flatten)]
        args: ArchiveArgs,
    }

    fn parse(line: &str) -> Result<ArchiveArgs, String> {
        Command::try_parse_from(line.split(' ')).map(|command| command.args).map_err(|e| e.to_string())
    }

    #[test]
    fn torchserves_own_command_lines_parse() {
        let request = parse(
            "archive --model-name mnist -v 1.0 --model-file m.py --serialized-file m.pt \
             --handler h --extra-files a,b --runtime LSP --export-path out \
             --archive-format zip-store -f -r req.txt -c cfg.yaml",
        )
        .unwrap()
        .into_request(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(request.model_name, "mnist");
        assert_eq!(request.version, "1.0");
        assert_eq!(request.runtime, Runtime::Lsp);
        assert_eq!(request.format, ArchiveFormat::ZipStore);
        assert_eq!(request.existing, Existing::Replace);
        assert_eq!(request.requirements_file, Some(PathBuf::from("req.txt")));
        assert_eq!(request.config_file, Some(PathBuf::from("cfg.yaml")));
        assert_eq!(request.export_path, PathBuf::from("out"));

        // As argparse takes them.
        let short = parse("archive --model-n m --ver 1 --han echo -f -f --force --version 2").unwrap();
        assert!(short.force && short.version.as_deref() == Some("2"));
        let short = parse("archive --model-name m --version 2 --handler echo").unwrap();
        let request = short.into_request(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(request.runtime, Runtime::Python);
        assert_eq!(request.format, ArchiveFormat::Mar);
        assert_eq!(request.existing, Existing::Refuse);
        assert_eq!(request.export_path, PathBuf::from("."));
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (line, expected) in [
            ("archive --model-name m", "--handler <HANDLER>"),
            ("archive --model-name m -v 1 --handler h --runtime java", "possible values: python, python3, LSP"),
            ("archive --model-name m -v 1 --handler h --archive-format rar", "no-archive"),
            ("archive --inspect m.mar --force", "cannot be used with"),
            ("archive --inspect m.mar --runtime LSP", "cannot be used with"),
            ("archive --model-name m -v 1 --handler h --json", "cannot be used with '--json'"),
            ("archive --model-name m -v 1 --handler h --ppath p", "cannot be used with '--plugins-path"),
            ("archive --json", "--model-name <MODEL_NAME>"),
            ("archive --model-name m -v 1 --handler h --e f", "unexpected argument '--e'"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
        assert!(parse("archive --inspect m.mar --json --ppath plugins").is_ok());
    }

    #[test]
    fn what_is_made_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let line = "archive --model-name m -v 1.0 --handler echo --export-path";
        let args = parse(&format!("{line} {}", folder.path().display())).unwrap();
        let packed = pack(&args.clone().into_request(OffsetDateTime::UNIX_EPOCH)).unwrap();
        let text = describe_packed(&packed);
        assert!(text.contains("format   zip\nmodel    m 1.0\n"), "{text}");
        assert!(text.contains("handler  handler \"echo\" of the server's plugins\n"), "{text}");
        assert!(text.contains("  MAR-INF/MANIFEST.json\n"), "{text}");

        let look = inspect::look(&packed.path, None).unwrap();
        assert!(look.is_whole());
        let text = look.to_text();
        assert!(text.contains("\"modelName\": \"m\""), "{text}");
        assert!(text.contains(&packed.digest.to_string()), "{text}");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB (1536 bytes)"),
            (3 << 30, "3.0 GiB (3221225472 bytes)"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
