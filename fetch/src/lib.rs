//! Files from other machines: HTTP, the Hugging Face Hub, object stores and git.
//!
//! In: where files are ([`Remote`]) and which of them are wanted ([`FetchBatch`]), with their digests where they are
//! known. Out: the files in a cache that is keyed by SHA-256, and their digests. Interrupted downloads are resumed,
//! failed ones retried, and every file is verified before it is used. A [`Lock`] records what was fetched, so that the
//! same is fetched again or the difference is reported.
//!
//! What a file is for is up to the caller: this crate must not depend on datasets, documents, file formats or tensors.
//! It connects to loopback, private and link-local addresses only where [`Options::allow_private`] says so.

mod error;

mod environment;

mod address;
mod retry;

mod http;

mod context;

mod download;
mod sources;

mod scheduler;

mod lock;

mod hub_model;

pub use address::git::{GitRepository, is_commit, is_path};
pub use address::glob::glob_set;
pub use address::hub::HubRepository;
pub use address::object_store::ObjectPattern;
pub use address::{Refused, parse_url};
pub use context::{Options, RemoteContext};
pub use download::cache::{CachedFile, cached_path, is_cached};
pub use download::request::{DigestSource, ExpectedDigest};
pub use environment::Environment;
pub use error::Error;
pub use hub_model::{FileChooser, HubModel, Snapshot, SnapshotFile};
pub use lock::{Lock, LockChange, LockEntry, LockedFile};
pub use scheduler::{FetchBatch, FetchItem, check_offline, fetch};
pub use sources::git::is_lfs_pointer;
pub use sources::listing::{Listing, RemoteFile};
pub use sources::{Remote, url_file_name};
