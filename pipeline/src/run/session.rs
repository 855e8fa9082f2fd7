//! What every command that plans or runs stages needs: the configuration, the store, the device, the terminal.

use std::collections::BTreeMap;

use artifact::{Cancel, Context, Recipe, Store, StoreLayout};

use crate::config::Loaded;
use crate::platform::interrupt;
use crate::run::dispatch::{Listing, RawData};
use crate::run::plan::{Planner, Selection};
use crate::run::stage::Stage;
use crate::ui::console::Console;

/// A configuration, opened: its store, device and terminal.
pub struct Session {
    /// The configuration.
    pub loaded: Loaded,
    /// The terminal and the log.
    pub console: Console,
    /// Requested by Ctrl-C, SIGTERM and SIGHUP if the session listens to them.
    pub cancel: Cancel,
    /// The paths of the store.
    pub layout: StoreLayout,
    /// The artifacts of the store.
    pub store: Store,
    /// The class of the device, which is also the name of one of it.
    pub device_class: &'static str,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The sources, once they are hashed.
    pub listing: Listing,
}

impl Session {
    /// Opens a configuration.
    ///
    /// # Errors
    /// Returns an error if the device is unknown or not built in.
    pub fn open(loaded: Loaded, console: Console, cancel: Cancel, offline: bool) -> anyhow::Result<Self> {
        let layout = loaded.layout();
        let store = layout.artifacts();
        let device_class = model::device::backend(&loaded.config.device)?.name();
        let listing = Listing::default();
        Ok(Self { loaded, console, cancel, layout, store, device_class, offline, listing })
    }

    /// Uses `store` instead of the configuration's.
    #[must_use]
    pub fn with_store(self, store: Store) -> Self {
        Self { store, ..self }
    }

    /// Shares the hashed sources of other sessions.
    #[must_use]
    pub fn with_listing(self, listing: Listing) -> Self {
        Self { listing, ..self }
    }

    /// Returns what the stages get beside their inputs. The device is named by its class, so that `auto` is resolved
    /// once a run and not once a stage.
    pub fn context(&self) -> Context {
        Context {
            base: self.loaded.base.clone(),
            seed: self.loaded.config.seed,
            device: self.device_class.to_owned(),
            offline: self.offline,
            progress: self.console.progress(Stage::Collect),
            cancel: self.cancel.clone(),
        }
    }

    /// Returns a planner for the selected stages.
    pub fn planner<'a>(
        &'a self,
        raw_data: &'a RawData,
        earlier: &'a BTreeMap<Stage, Recipe>,
        selection: &'a Selection,
    ) -> Planner<'a> {
        Planner {
            config: &self.loaded.config,
            store: &self.store,
            raw_data,
            device_class: self.device_class,
            earlier,
            selection,
        }
    }
}

/// Returns a cancel that signals request; the first one prints `notice`.
///
/// # Errors
/// Returns an error if the system refuses a signal handler.
pub fn listen(console: &Console, notice: &'static str) -> anyhow::Result<Cancel> {
    let console = console.clone();
    interrupt::listen(move || console.line(notice))
}
