//! What a path leads to.

/// A path of the API, taken apart; whether there is such a kind is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    /// Empty: a discovery document.
    pub(crate) plural: &'a str,
    /// Empty: all of them, or the kind has none.
    pub(crate) namespace: &'a str,
    /// Empty: a collection.
    pub(crate) name: &'a str,
    /// `status`, `token`; empty: the object.
    pub(crate) part: &'a str,
}

impl<'a> Target<'a> {
    /// None for what is no path of the API.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let mut words = path.trim_matches('/').split('/');
        let (group, version) = match words.next()? {
            "api" => ("", words.next()?),
            "apis" => (words.next()?, words.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = words.collect();
        let target = |namespace, plural, name, part| Self {
            group,
            version,
            plural,
            namespace,
            name,
            part,
        };
        Some(match rest.as_slice() {
            [] => target("", "", "", ""),
            [plural] => target("", plural, "", ""),
            ["namespaces", name, part @ ("status" | "finalize")] => {
                target("", "namespaces", name, part)
            }
            ["namespaces", namespace, plural] => target(namespace, plural, "", ""),
            ["namespaces", namespace, plural, name] => target(namespace, plural, name, ""),
            ["namespaces", namespace, plural, name, part] => target(namespace, plural, name, part),
            [plural, name] => target("", plural, name, ""),
            [plural, name, part] => target("", plural, name, part),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn paths_lead_to_objects_in_and_out_of_namespaces() {
        let of = |path| {
            let Target {
                group,
                plural,
                namespace,
                name,
                part,
                ..
            } = Target::of(path)?;
            Some([group, plural, namespace, name, part])
        };
        assert_eq!(
            of("/api/v1/nodes/n1/status"),
            Some(["", "nodes", "", "n1", "status"])
        );
        assert_eq!(
            of("/api/v1/namespaces/a"),
            Some(["", "namespaces", "", "a", ""])
        );
        assert_eq!(
            of("/api/v1/namespaces/a/pods"),
            Some(["", "pods", "a", "", ""])
        );
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        assert_eq!(
            of(slices),
            Some(["discovery.k8s.io", "endpointslices", "", "", ""])
        );
        assert_eq!(
            of("/apis/routelet.dev/v1alpha1"),
            Some(["routelet.dev", "", "", "", ""])
        );
        assert_eq!(of("/metrics"), None);
    }
}
