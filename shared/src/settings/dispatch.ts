import type { Setting } from './setting.ts'

/** Settings of how the gateway waits for nodes. */
export const DISPATCH_SETTINGS = {
  COPAL_NODE_SILENT_MS: {
    readers: ['gateway'],
    default: 6_000,
    meaning: 'Silence after which a node takes no requests: three heartbeats.',
  },
  COPAL_NODE_DEAD_MS: {
    readers: ['gateway'],
    default: 30_000,
    meaning: "Silence after which a node's leases end, unless its `/health` answers.",
  },
  COPAL_LEASE_MS: {
    readers: ['gateway'],
    default: 120_000,
    meaning: 'How long a lease lives without progress.',
  },
  COPAL_CONNECT_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 5_000,
    meaning: 'A heartbeat composed so long after a lease must name the request.',
  },
  COPAL_FIRST_TOKEN_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 100_000,
    meaning: "From a request's first step to its first token; queueing on the node does not count.",
  },
  COPAL_IDLE_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 60_000,
    meaning: 'Between two steps of a request.',
  },
  COPAL_TOTAL_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 1_800_000,
    meaning: 'From the call of a node to the end of the response.',
  },
  COPAL_QUEUE_SIZE: {
    readers: ['gateway'],
    default: 512,
    meaning: 'Requests that may wait for a full fleet.',
  },
  COPAL_QUEUE_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 20_000,
    meaning: 'How long they may wait.',
  },
  COPAL_NODE_WAIT_MS: {
    readers: ['gateway'],
    default: 4_000,
    meaning: 'How long a request waits for a node to return when there is none.',
  },
  COPAL_PREFIX_SPILLOVER: {
    readers: ['gateway'],
    default: 4,
    meaning:
      'Requests by which a node may be busier than the least loaded one and still be preferred for a cached prefix.',
  },
  COPAL_CACHE_LOOKUP_MS: {
    readers: ['gateway'],
    default: 500,
    meaning: 'How long a look-up in the response cache may take.',
  },
} as const satisfies Record<string, Setting>
