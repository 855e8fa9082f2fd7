//! The models of a server: loaded and unloaded at run time, and chosen by name.
//!
//! A request holds its model until its answer has ended, so unloading harms none: the name disappears at once, the
//! worker finishes what it has, and the memory is free after that.
//!
//! An adapter is a model with the weights, the worker and the cache of its base, which must be loaded before it and is
//! unloaded with it.

mod loaded;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use artifact::Cancel;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::error::causes;
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
    /// The folder in the Hugging Face layout; of an adapter, in PEFT's layout.
    pub folder: PathBuf,
    /// The name of the model that this is an adapter of; none for a model of its own.
    pub base: Option<String>,
    /// The folder of the index of its training data, the artifact of stage index; none if there is none.
    pub index: Option<PathBuf>,
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
    /// The name of the model that it is an adapter of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
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
    /// Returns an error if two of them have the same name, or the base of an adapter is not a model to be loaded before
    /// it.
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
            let Some(base) = &model.base else { continue };
            let reason = match models.iter().find(|other| other.name == *base) {
                None => "is not one of the models",
                Some(ModelFolder { base: Some(_), .. }) => "is an adapter itself",
                Some(other) if model.load && !other.load => "is not loaded at the start (`load`)",
                Some(_) => continue,
            };
            return Err(Error::AdapterBase { name: model.name.clone(), base: base.clone(), reason });
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
        let mut names = self.names(|slot| slot.model.load && slot.model.base.is_none());
        names.extend(self.names(|slot| slot.model.load && slot.model.base.is_some()));
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
        let Some(model) = self.find(name, |slot| slot.model.clone()) else { return Ok(()) };
        if let Some(State::Loaded(_)) = self.find(name, |slot| slot.state.clone()) {
            return Ok(());
        }
        self.set(name, State::Loading);
        let load = || match &model.base {
            Some(base) => self.load_adapter(&model, base),
            None => self.load_weights(&model),
        };
        // A model that is being loaded for good could be neither unloaded nor loaded again.
        let loaded = catch_unwind(AssertUnwindSafe(load));
        match loaded.unwrap_or_else(|_| Err(Error::LoadPanicked { name: name.to_owned() })) {
            Ok(model) => {
                self.set(name, State::Loaded(Arc::new(model)));
                tracing::info!(model = name, "loaded");
                Ok(())
            }
            Err(error) => {
                let reason = causes(&error);
                tracing::warn!(model = name, error = reason, "not loaded");
                self.set(name, State::Failed(reason));
                Err(error)
            }
        }
    }

    fn load_weights(&self, model: &ModelFolder) -> Result<LoadedModel, Error> {
        let config = Config { model_name: model.name.clone(), ..self.config.clone() };
        let (metrics, abort) = (self.metrics.of(&model.name), self.abort.clone());
        let n_models = self.names(|slot| slot.model.base.is_none()).len();
        let (model, worker) = LoadedModel::load(model, n_models, config, &self.device, metrics, abort)?;
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| !worker.is_finished());
        workers.push(worker);
        Ok(model)
    }

    fn load_adapter(&self, adapter: &ModelFolder, base: &str) -> Result<LoadedModel, Error> {
        let Some(State::Loaded(loaded)) = self.find(base, |slot| slot.state.clone()) else {
            let (name, base) = (adapter.name.clone(), base.to_owned());
            return Err(Error::AdapterBase { name, base, reason: "is not loaded" });
        };
        LoadedModel::load_adapter(&loaded, adapter, self.metrics.of_adapter(&adapter.name))
    }

    /// Marks a model as being loaded. Returns false if it is loaded or being loaded already.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name, or the model that it is an adapter of is not loaded.
    pub(crate) fn begin_loading(&self, name: &str) -> Result<bool, ApiError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = slots.iter().position(|slot| slot.model.name == name) else { return Err(unknown(name, &slots)) };
        if let State::Loading | State::Loaded(_) = slots[at].state {
            return Ok(false);
        }
        if let Some(base) = &slots[at].model.base {
            let is_loaded = |slot: &Slot| slot.model.name == *base && matches!(slot.state, State::Loaded(_));
            if !slots.iter().any(is_loaded) {
                return Err(ApiError::base_not_loaded(name, base));
            }
        }
        slots[at].state = State::Loading;
        Ok(true)
    }

    /// Unloads a model and its adapters once their requests have been answered.
    ///
    /// # Errors
    /// Returns an error if there is no model of that name, or it or an adapter of it is being loaded.
    pub(crate) fn unload(&self, name: &str) -> Result<(), ApiError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if !slots.iter().any(|slot| slot.model.name == name) {
            return Err(unknown(name, &slots));
        }
        let is_unloaded = |slot: &&mut Slot| slot.model.name == name || slot.model.base.as_deref() == Some(name);
        let mut unloaded: Vec<&mut Slot> = slots.iter_mut().filter(is_unloaded).collect();
        if let Some(slot) = unloaded.iter().find(|slot| matches!(slot.state, State::Loading)) {
            return Err(ApiError::loading(&slot.model.name));
        }
        for slot in &mut unloaded {
            slot.state = State::Unloaded;
        }
        Ok(())
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
            None => Err(unknown(name.unwrap_or_default(), &slots)),
        }
    }

    /// Returns the models that are loaded.
    pub(crate) fn loaded(&self) -> Vec<Arc<LoadedModel>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let of = |slot: &Slot| if let State::Loaded(model) = &slot.state { Some(Arc::clone(model)) } else { None };
        slots.iter().filter_map(of).collect()
    }

    /// Returns `ok` if a model can answer and none is being loaded at the start; else `loading`, or `unloaded` if none
    /// is to be loaded at the start.
    pub(crate) fn readiness(&self) -> &'static str {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let is_loading = |slot: &Slot| slot.model.load && matches!(slot.state, State::Loading);
        match () {
            () if slots.iter().any(is_loading) => "loading",
            () if slots.iter().any(|slot| matches!(slot.state, State::Loaded(_))) => "ok",
            () if slots.iter().any(|slot| slot.model.load) => "loading",
            () => "unloaded",
        }
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
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.iter().find(|slot| slot.model.name == name);
        slot.map(Slot::describe).ok_or_else(|| unknown(name, &slots))
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

    fn set(&self, name: &str, state: State) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.model.name == name) {
            slot.state = state;
        }
    }
}

fn unknown(name: &str, slots: &[Slot]) -> ApiError {
    let names: Vec<&str> = slots.iter().map(|slot| slot.model.name.as_str()).collect();
    ApiError::model_not_found(name, &names.join("`, `"))
}

impl Slot {
    fn describe(&self) -> ModelState {
        let (state, error) = match &self.state {
            State::Unloaded => ("unloaded", None),
            State::Loading => ("loading", None),
            State::Loaded(_) => ("loaded", None),
            State::Failed(error) => ("failed", Some(error.clone())),
        };
        ModelState { id: self.model.name.clone(), base: self.model.base.clone(), state, error }
    }
}

#[cfg(test)]
mod tests {
    use model::Family;

    use super::*;

    /// The weights, the cache and the worker are in memory once.
    #[test]
    fn adapters_have_the_weights_of_their_base() {
        let folder = tempfile::tempdir().unwrap();
        let model = |name: &str, base: Option<&str>| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            ModelFolder { name: name.to_owned(), folder, base: base.map(str::to_owned), index: None, load: true }
        };
        let folders = vec![model("a", Some("base")), model("base", None), model("b", Some("base"))];
        test_support::tiny::write_adapter(&folders[0].folder, 1);
        test_support::tiny::write(&folders[1].folder, Family::Qwen3, 64);
        test_support::tiny::write_adapter(&folders[2].folder, 2);
        let (metrics, abort) = (Arc::new(Metrics::new()), Cancel::default());
        let models = Models::new(folders, &Config::default(), "cpu", metrics, abort).unwrap();
        models.load_first().unwrap();
        let [base, a, b] = ["base", "a", "b"].map(|name| models.get(Some(name)).unwrap());
        assert!(Arc::ptr_eq(&base.generator, &a.generator) && Arc::ptr_eq(&base.generator, &b.generator));
        assert_eq!(models.workers.lock().unwrap().len(), 1);
        drop((base, a, b));
        models.stop();
    }
}
