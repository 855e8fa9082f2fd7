//! The models of a server: loaded and unloaded at run time, and chosen by name.
//!
//! A request holds its model until its answer has ended, so unloading harms none: the name disappears at once, the
//! worker finishes what it has, and the memory is free after that.

mod loaded;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use artifact::Cancel;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::metrics::Metrics;
use crate::{Config, Error};
pub(crate) use loaded::LoadedModel;

/// Time for workers to stop once their requests have been aborted.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A model that a server can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// Its name in the API.
    pub name: String,
    /// The folder in the Hugging Face layout.
    pub folder: PathBuf,
    /// Whether it is loaded at the start.
    pub load: bool,
}

/// The models of a server.
pub(crate) struct Models {
    slots: RwLock<Vec<Slot>>,
    config: Config,
    device: String,
    metrics: Arc<Metrics>,
    abort: Cancel,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Slot {
    model: ModelFolder,
    state: State,
}

#[derive(Clone)]
enum State {
    Unloaded,
    Loading,
    Loaded(Arc<LoadedModel>),
    Failed(String),
}

/// What a model is doing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelState {
    /// The model's name.
    pub(crate) id: String,
    /// `unloaded`, `loading`, `loaded` or `failed`.
    pub(crate) state: &'static str,
    /// Why it could not be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Models {
    /// Returns models of which none is loaded. The settings of all are those of `config`.
    ///
    /// # Errors
    /// Returns an error if two of them have the same name.
    pub(crate) fn new(
        models: Vec<ModelFolder>,
        config: &Config,
        device: &str,
        metrics: Arc<Metrics>,
        abort: Cancel,
    ) -> Result<Self, Error> {
        for (i, model) in models.iter().enumerate() {
            if models[..i].iter().any(|other| other.name == model.name) {
                return Err(Error::RepeatedName { name: model.name.clone() });
            }
        }
        let slots = models.into_iter().map(|model| Slot { model, state: State::Unloaded }).collect();
        Ok(Self {
            slots: RwLock::new(slots),
            config: config.clone(),
            device: device.to_owned(),
            metrics,
            abort,
            workers: Mutex::default(),
        })
    }

    /// Loads the models that are to be loaded at the start.
    ///
    /// # Errors
    /// Returns the first error of loading one.
    pub(crate) fn load_first(&self) -> Result<(), Error> {
        let names = self.names(|slot| slot.model.load);
        for name in &names {
            self.set(name, State::Loading);
        }
        names.iter().try_for_each(|name| self.load(name))
    }

    /// Loads a model, which takes as long as reading its weights. Nothing happens if it is loaded already.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded.
    pub(crate) fn load(&self, name: &str) -> Result<(), Error> {
        let Some(folder) = self.find(name, |slot| slot.model.folder.clone()) else { return Ok(()) };
        if let Some(State::Loaded(_)) = self.find(name, |slot| slot.state.clone()) {
            return Ok(());
        }
        self.set(name, State::Loading);
        let config = Config { model_name: name.to_owned(), ..self.config.clone() };
        let metrics = self.metrics.of(name);
        match LoadedModel::load(&folder, config, &self.device, metrics, self.abort.clone()) {
            Ok((model, worker)) => {
                let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
                workers.retain(|worker| !worker.is_finished());
                workers.push(worker);
                self.set(name, State::Loaded(Arc::new(model)));
                tracing::info!(model = name, "loaded");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(model = name, %error, "not loaded");
                self.set(name, State::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    /// Marks a model as being loaded. Returns false if it is loaded or being loaded already.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name.
    pub(crate) fn begin_loading(&self, name: &str) -> Result<bool, ApiError> {
        self.change(name, |state| match state {
            State::Loading | State::Loaded(_) => false,
            State::Unloaded | State::Failed(_) => {
                *state = State::Loading;
                true
            }
        })
    }

    /// Unloads a model once its requests have been answered.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name, or it is being loaded.
    pub(crate) fn unload(&self, name: &str) -> Result<(), ApiError> {
        self.change(name, |state| {
            if matches!(state, State::Loading) {
                return Err(ApiError::loading(name));
            }
            *state = State::Unloaded;
            Ok(())
        })?
    }

    /// Returns the model of a name; the first without one.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name, or it is not loaded.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<LoadedModel>, ApiError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = match name {
            Some(name) => slots.iter().find(|slot| slot.model.name == name),
            // The first that can answer; if none can, the first of all.
            None => slots.iter().find(|slot| matches!(slot.state, State::Loaded(_))).or(slots.first()),
        };
        match slot {
            Some(Slot { state: State::Loaded(model), .. }) => Ok(Arc::clone(model)),
            Some(Slot { state: State::Loading, model }) => Err(ApiError::loading(&model.name)),
            Some(slot) => Err(ApiError::not_loaded(&slot.model.name)),
            None => {
                let names: Vec<&str> = slots.iter().map(|slot| slot.model.name.as_str()).collect();
                Err(ApiError::model_not_found(name.unwrap_or_default(), &names.join("`, `")))
            }
        }
    }

    /// Returns the models that are loaded.
    pub(crate) fn loaded(&self) -> Vec<Arc<LoadedModel>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let of = |slot: &Slot| if let State::Loaded(model) = &slot.state { Some(Arc::clone(model)) } else { None };
        slots.iter().filter_map(of).collect()
    }

    /// Returns true if no model is being loaded and at least one is.
    pub(crate) fn is_ready(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        !slots.iter().any(|slot| slot.model.load && matches!(slot.state, State::Loading))
            && slots.iter().any(|slot| matches!(slot.state, State::Loaded(_)))
    }

    /// Returns what every model is doing.
    pub(crate) fn states(&self) -> Vec<ModelState> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(Slot::describe).collect()
    }

    /// Returns what a model is doing.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name.
    pub(crate) fn state(&self, name: &str) -> Result<ModelState, ApiError> {
        self.find(name, Slot::describe).ok_or_else(|| self.unknown(name))
    }

    /// Unloads all models and waits for their workers, but not for a device that hangs.
    pub(crate) fn stop(&self) {
        for name in self.names(|_| true) {
            self.set(&name, State::Unloaded);
        }
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let start = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) && start.elapsed() < STOP_GRACE {
            std::thread::sleep(Duration::from_millis(5));
        }
        for worker in workers {
            if worker.is_finished() {
                // The worker catches panics of requests; any other panic has been printed.
                let _ = worker.join();
            } else {
                tracing::warn!("a worker thread did not stop in time and is abandoned");
            }
        }
    }

    fn names(&self, which: impl Fn(&Slot) -> bool) -> Vec<String> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().filter(|slot| which(slot)).map(|slot| slot.model.name.clone()).collect()
    }

    fn find<T>(&self, name: &str, of: impl FnOnce(&Slot) -> T) -> Option<T> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find(|slot| slot.model.name == name).map(of)
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut State) -> T) -> Result<T, ApiError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.model.name == name) {
            return Ok(change(&mut slot.state));
        }
        drop(slots);
        Err(self.unknown(name))
    }

    fn set(&self, name: &str, state: State) {
        // The names never change.
        let _ = self.change(name, |old| std::mem::replace(old, state));
    }

    fn unknown(&self, name: &str) -> ApiError {
        ApiError::model_not_found(name, &self.names(|_| true).join("`, `"))
    }
}

impl Slot {
    fn describe(&self) -> ModelState {
        let (state, error) = match &self.state {
            State::Unloaded => ("unloaded", None),
            State::Loading => ("loading", None),
            State::Loaded(_) => ("loaded", None),
            State::Failed(error) => ("failed", Some(error.clone())),
        };
        ModelState { id: self.model.name.clone(), state, error }
    }
}
