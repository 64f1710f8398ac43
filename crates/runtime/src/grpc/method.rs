/// How the calls of a method hold memory, and how long they may wait for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    /// The client sends one message.
    OneMessage,
    /// `Sync`. Its callers are authenticated, and it is bounded by backpressure: the admin queues at most a few messages to the
    /// connection. A session never ends for want of memory, so its messages are not counted.
    Session,
    /// `StreamValidateTokens`. Each answer is made when the one before it was sent, so the answers that are not read have a fixed
    /// bound, and only requests are counted.
    ValidationStream,
    /// gRPC reflection. The client sends a stream of messages.
    Reflection,
}

/// What each call holds besides its messages, roughly: its stream, its task, its headers, and buffers for small messages.
const CALL: usize = 4 << 10;

const SYNC: &str = "/keyward.replica.v1.ReplicaService/Sync";
const STREAM_VALIDATE_TOKENS: &str = "/keyward.validate.v1.ValidateService/StreamValidateTokens";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

impl Method {
    pub(super) fn of(path: &str) -> Self {
        match path {
            SYNC => Self::Session,
            STREAM_VALIDATE_TOKENS => Self::ValidationStream,
            REFLECTION | REFLECTION_ALPHA => Self::Reflection,
            _ => Self::OneMessage,
        }
    }

    /// Bytes that a call of the method holds from its beginning to its end.
    pub(super) const fn price(self) -> usize {
        match self {
            Self::OneMessage | Self::Session | Self::Reflection => CALL,
            // Two parts of the answer of `ANSWERS_AT_ONCE` messages each: one in the transport's buffer, one beside it.
            Self::ValidationStream => 4 * CALL,
        }
    }

    /// Returns `true` if the memory of the messages that the client sends is counted.
    pub(super) const fn counts_requests(self) -> bool {
        !matches!(self, Self::Session)
    }

    /// Returns `true` if the memory of the messages that are sent to the client is counted.
    pub(super) const fn counts_answers(self) -> bool {
        matches!(self, Self::OneMessage | Self::Reflection)
    }

    /// Returns `true` if the client may take any time before it begins a message.
    pub(super) const fn may_wait(self) -> bool {
        !matches!(self, Self::OneMessage)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_to_which_clients_send_a_stream_may_wait_for_messages_and_no_other() {
        let sets = [
            keyward_proto::DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ];
        let mut waiting = BTreeSet::new();
        for set in sets {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        assert_eq!(Method::of(&path).may_wait(), method.client_streaming(), "{path}");
                        waiting.extend(method.client_streaming().then_some(path));
                    }
                }
            }
        }
        assert_eq!(waiting, [SYNC, STREAM_VALIDATE_TOKENS, REFLECTION].map(str::to_owned).into());
    }
}
