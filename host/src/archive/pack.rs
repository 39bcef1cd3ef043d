//! Makes archives, as `torch-model-archiver` does, without its defects: it never
//! touches a folder it didn't make, and no file silently takes another's place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use time::OffsetDateTime;

use crate::archive::error::ArchiveError;
use crate::archive::handler_name::HandlerName;
use crate::archive::manifest;
use crate::archive::manifest::Manifest;
use crate::archive::manifest::ManifestModel;
use crate::archive::manifest::Runtime;
use crate::archive::members;
use crate::archive::members::Member;
use crate::archive::model_config::ModelConfig;
use crate::archive::plan::Plan;
use crate::archive::write;
use crate::archive::write::ArchiveFormat;
use crate::archive::write::Existing;
use crate::ids::Digest;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// What to put into an archive, and where; the fields are the flags of the archiver.
#[derive(Debug, Clone)]
pub struct PackRequest {
    pub model_name: String,
    pub version: String,
    pub handler: String,
    pub serialized_file: Option<PathBuf>,
    pub model_file: Option<PathBuf>,
    /// Files, folders and patterns, with commas between them.
    pub extra_files: Option<String>,
    pub runtime: Runtime,
    pub export_path: PathBuf,
    pub format: ArchiveFormat,
    pub existing: Existing,
    pub requirements_file: Option<PathBuf>,
    pub config_file: Option<PathBuf>,
    /// What the manifest and the members are dated with.
    pub created_on: OffsetDateTime,
}

/// An archive that was made.
#[derive(Debug)]
pub struct Packed {
    pub path: PathBuf,
    /// Of the archive; for a folder, of all files in it.
    pub size: u64,
    /// In the order in which they lie in the archive.
    pub members: Vec<Member>,
    /// The same as that of the opened package.
    pub digest: Digest,
    pub manifest: Manifest,
    pub handler: HandlerName,
    /// What was done, but maybe not meant; one sentence each.
    pub warnings: Vec<String>,
}

/// Makes an archive. It appears under its name only when it is whole.
pub fn pack(request: &PackRequest) -> Result<Packed, ArchiveError> {
    let model_name = ModelName::parse(&request.model_name)?;
    let target = write::target(&request.export_path, &model_name, request.format);
    let mut plan = Plan { target: target.clone(), sources: BTreeMap::new(), warnings: Vec::new() };
    let handler_text = plan.add_handler(&request.handler, request.runtime)?;
    let handler = HandlerName::parse(&handler_text, request.runtime)?;
    let mut add = |role, file: &Option<PathBuf>| match file {
        Some(path) => plan.add_named(role, path).map(Some),
        None => Ok(None),
    };
    let serialized_file = add("--serialized-file", &request.serialized_file)?;
    let model_file = add("--model-file", &request.model_file)?;
    let requirements_file = add("--requirements-file", &request.requirements_file)?;
    let config_file = add("--config-file", &request.config_file)?;
    if let Some(path) = &request.config_file {
        let config = ModelConfig::read(path)?;
        let warnings = config.warnings.into_iter();
        plan.warnings.extend(warnings.map(|w| format!("{}: {w}", path.display())));
    }
    plan.add_extra_files(request.extra_files.as_deref().unwrap_or_default())?;

    let manifest = Manifest {
        created_on: Some(manifest::created_on(request.created_on)),
        description: None,
        runtime: request.runtime,
        model: ManifestModel {
            model_name: Some(request.model_name.clone()),
            serialized_file,
            handler: Some(handler_text),
            model_file,
            model_version: ModelVersion::new(&request.version),
            requirements_file,
            config_file,
        },
        archiver_version: Some(format!("sconce {}", env!("CARGO_PKG_VERSION"))),
    };
    let text = manifest.to_text().map_err(|e| ArchiveError::Write { path: target.clone(), detail: e.to_string() })?;
    plan.make_export_path(&request.export_path)?;
    if request.existing == Existing::Replace {
        plan.warn_of_overwriting();
    }
    let written = write::write(&write::Job {
        target: &target,
        name: &model_name,
        format: request.format,
        existing: request.existing,
        created_on: request.created_on,
        manifest: &text,
        sources: &plan.sources,
    })?;
    Ok(Packed {
        path: target,
        size: written.size,
        digest: members::digest_of(&written.members),
        members: written.members,
        manifest,
        handler,
        warnings: plan.warnings,
    })
}
