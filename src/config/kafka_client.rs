//! `kafka.client`: any librdkafka option, but those that would break the guarantee.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// An option that the pipeline has to set itself, the values that leave the guarantee whole, and why others do not.
struct Refused {
    option: &'static str,
    allowed: &'static [&'static str],
    reason: &'static str,
}

const OWN_COMMITS: &str = "positions are committed by the checkpoint alone";
const ALL_ACKS: &str = "a relay or dead letter that only some replicas have may be lost";
const NO_TIMEOUT: &str = "a relay that times out would leave a gap in its chain";
const RANGE: &str = "range assignment brings the partitions of a task together";
const IN_ORDER: &str = "relays have to arrive in order and once";

const REFUSED: &[Refused] = &[
    refused("enable.auto.commit", &["false"], OWN_COMMITS),
    refused("auto.commit.enable", &["false"], OWN_COMMITS),
    refused("enable.auto.offset.store", &["false"], OWN_COMMITS),
    refused("offset.store.method", &["broker"], OWN_COMMITS),
    refused("offset.store.path", &[], OWN_COMMITS),
    refused("auto.offset.reset", &["error"], "a position that the log no longer has is lost input: it has to stop the task, not jump"),
    refused("isolation.level", &["read_committed"], "records of an aborted transaction were never sent"),
    refused("enable.idempotence", &["true"], IN_ORDER),
    refused("max.in.flight", &["1", "2", "3", "4", "5"], IN_ORDER),
    refused("max.in.flight.requests.per.connection", &["1", "2", "3", "4", "5"], IN_ORDER),
    refused("retries", &[], IN_ORDER),
    refused("message.send.max.retries", &[], IN_ORDER),
    refused("queuing.strategy", &["fifo"], IN_ORDER),
    refused("acks", &["all", "-1"], ALL_ACKS),
    refused("request.required.acks", &["all", "-1"], ALL_ACKS),
    refused("message.timeout.ms", &["0"], NO_TIMEOUT),
    refused("delivery.timeout.ms", &["0"], NO_TIMEOUT),
    refused("partition.assignment.strategy", &["range"], RANGE),
    refused("group.remote.assignor", &[], RANGE),
    refused("group.protocol", &["classic"], "fencing relies on the classic protocol's generations"),
    refused("group.protocol.type", &["consumer"], "fencing relies on the classic protocol's generations"),
    refused("group.id", &[], "set `kafka.group`"),
    refused("group.instance.id", &[], "each worker has its own; set `kafka.instance_id`"),
    refused("transactional.id", &[], "the pipeline uses no transactions: it needs none, and a shared id would fence its own workers"),
    refused("enable.partition.eof", &[], "the pipeline sets it to know when a log is read to its end"),
    refused("allow.auto.create.topics", &["false"], "a mistyped topic has to be an error; `onecode migrate` creates what is needed"),
    refused("topic.blacklist", &[], "a hidden topic would be lost input"),
    refused("plugin.library.paths", &[], "foreign code in the client could drop or change records"),
    refused("test.mock.num.brokers", &["0"], "it replaces the cluster by a mock"),
    refused("enable.gapless.guarantee", &["true"], IN_ORDER),
];

const fn refused(option: &'static str, allowed: &'static [&'static str], reason: &'static str) -> Refused {
    Refused { option, allowed, reason }
}

/// What is wrong with an option, if something is: it would break the guarantee, or librdkafka does not know it or its value.
/// The message never holds the value.
pub(super) fn fault(option: &str, value: &str) -> Option<String> {
    if let Some(refusal) = REFUSED.iter().find(|refusal| refusal.option == option) {
        if refusal.allowed.contains(&value) {
            return None;
        }
        let remedy = match refusal.allowed {
            [] => "leave it out".to_owned(),
            values => format!("leave it out (allowed: {})", values.join(", ")),
        };
        return Some(format!("is refused: {}; {remedy}", refusal.reason));
    }
    match ClientConfig::new().set(option, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, description, _, given)) => {
            let reason = if given.is_empty() { description } else { description.replace(&given, "…") };
            Some(format!("is not taken by librdkafka: {reason}"))
        }
        Err(error) => Some(format!("is not taken by librdkafka: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_option_is_one_of_librdkafka_so_that_none_is_misspelt() {
        // Some of them librdkafka itself takes only together with others, or only a value of its own kind: the name is what counts.
        for refusal in REFUSED {
            let value = refusal.allowed.first().copied().unwrap_or("1");
            if let Err(KafkaError::ClientConfig(_, description, ..)) = ClientConfig::new().set(refusal.option, value).create_native_config()
            {
                assert!(!description.contains("No such configuration property"), "{}: {description}", refusal.option);
            }
        }
    }

    #[test]
    fn refused_options_say_why_and_pass_with_the_value_that_the_pipeline_sets_anyway() {
        let message = fault("acks", "1").expect("refused");
        assert!(message.contains("replicas") && message.contains("allowed: all, -1"), "{message}");
        assert_eq!(fault("acks", "all"), None);
        assert_eq!(fault("session.timeout.ms", "45000"), None);
        assert!(fault("group.id", "x").is_some_and(|message| message.contains("kafka.group")));
    }

    #[test]
    fn options_unknown_to_librdkafka_are_found_without_a_broker() {
        assert!(fault("sesion.timeout.ms", "1").is_some_and(|message| message.contains("No such configuration property")));
        let message = fault("security.protocol", "hunter2").expect("no such protocol");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
