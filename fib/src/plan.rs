//! What turns the kernel into the desired state: pure, one prefix at a time or whole against whole.

/// One step for one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// Nothing of ours is there: fails if something else is (`NLM_F_EXCL`), so a foreign route is never hit.
    Create(T),
    /// Something of ours is there: swapped in place, never absent.
    Replace(T),
    /// Ours is there and not wanted.
    Remove,
}

impl<T> Step<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Create(there) => Step::Create(change(there)),
            Self::Replace(there) => Step::Replace(change(there)),
            Self::Remove => Step::Remove,
        }
    }
}

/// Whether routes that nobody wants may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Allowed,
    /// The inputs are not complete: whoever wants the route may only not have said so yet.
    Withheld,
}

/// The step from what is in the `kernel` to what is `desired` for one prefix; `None`: nothing to do.
pub(crate) fn step<T: PartialEq>(
    desired: Option<T>,
    kernel: Option<T>,
    removal: Removal,
) -> Option<Step<T>> {
    match (desired, kernel) {
        (Some(desired), None) => Some(Step::Create(desired)),
        (Some(desired), Some(kernel)) if desired != kernel => Some(Step::Replace(desired)),
        (None, Some(_)) if removal == Removal::Allowed => Some(Step::Remove),
        (Some(_) | None, Some(_)) | (None, None) => None,
    }
}

/// All steps, those that add or replace before those that remove: what moves from one prefix to another
/// is never without a route. (The reconciler keeps the same order with its two queues.)
#[cfg(test)]
pub(crate) fn plan<K: Ord + Clone, T: PartialEq + Clone>(
    desired: &std::collections::BTreeMap<K, T>,
    kernel: &std::collections::BTreeMap<K, T>,
    removal: Removal,
) -> Vec<(K, Step<T>)> {
    let keys: std::collections::BTreeSet<&K> = desired.keys().chain(kernel.keys()).collect();
    let mut steps: Vec<(K, Step<T>)> = keys
        .into_iter()
        .filter_map(|key| {
            let step = step(desired.get(key).cloned(), kernel.get(key).cloned(), removal)?;
            Some((key.clone(), step))
        })
        .collect();
    steps.sort_by_key(|(_, step)| matches!(step, Step::Remove));
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Routes = BTreeMap<u8, u8>;

    fn apply(kernel: &mut Routes, key: u8, step: Step<u8>) {
        match step {
            Step::Create(target) => {
                assert_eq!(kernel.insert(key, target), None, "create over a route")
            }
            Step::Replace(target) => {
                assert!(kernel.insert(key, target).is_some(), "replace of nothing")
            }
            Step::Remove => assert!(kernel.remove(&key).is_some(), "removal of nothing"),
        }
    }

    proptest! {
        #[test]
        fn the_plan_makes_the_kernel_the_desired_state(desired: Routes, mut kernel: Routes) {
            for (key, step) in plan(&desired, &kernel.clone(), Removal::Allowed) {
                apply(&mut kernel, key, step);
            }
            prop_assert_eq!(kernel, desired);
        }

        #[test]
        fn a_prefix_that_stays_wanted_is_never_absent(desired: Routes, mut kernel: Routes) {
            let staying: Vec<u8> = kernel.keys().filter(|key| desired.contains_key(key)).copied().collect();
            for (key, step) in plan(&desired, &kernel.clone(), Removal::Allowed) {
                apply(&mut kernel, key, step);
                prop_assert!(staying.iter().all(|key| kernel.contains_key(key)));
            }
        }

        #[test]
        fn nothing_is_removed_before_everything_is_added(desired: Routes, kernel: Routes) {
            let steps = plan(&desired, &kernel, Removal::Allowed);
            let first_removal = steps.iter().position(|(_, step)| *step == Step::Remove).unwrap_or(steps.len());
            prop_assert!(steps.iter().skip(first_removal).all(|(_, step)| *step == Step::Remove));
        }

        #[test]
        fn withheld_removal_keeps_everything(desired: Routes, mut kernel: Routes) {
            let before = kernel.clone();
            for (key, step) in plan(&desired, &kernel.clone(), Removal::Withheld) {
                apply(&mut kernel, key, step);
            }
            prop_assert!(before.keys().all(|key| kernel.contains_key(key)));
            prop_assert!(desired.iter().all(|(key, target)| kernel.get(key) == Some(target)));
        }

        #[test]
        fn a_second_plan_is_empty(desired: Routes) {
            prop_assert!(plan(&desired, &desired, Removal::Allowed).is_empty());
        }
    }
}
