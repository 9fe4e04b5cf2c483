import type { Setting } from './setting.ts'

/** Settings of who may call the gateway, and how often. */
export const ACCESS_SETTINGS = {
  NODE_SECRET: {
    readers: ['gateway', 'command'],
    secret: true,
    unset: 'required',
    meaning:
      'At least 16 characters. The secret of each node is derived from it; no node has it ([nodes](deploy.md#nodes)).',
  },
  NODE_SECRET_ALTERNATE: {
    readers: ['gateway'],
    secret: true,
    meaning:
      'A second node secret that is accepted while it is replaced ([replacing it](deploy.md#protecting-a-node)).',
  },
  ADMIN_KEY_SHA256: {
    readers: ['gateway'],
    secret: true,
    unset: 'required',
    meaning: 'The SHA-256 of the admin key, 64 hexadecimal digits.',
  },
  KEY_PEPPER: {
    readers: ['gateway'],
    secret: true,
    unset: 'required',
    meaning:
      'At least 32 characters. It goes into the hash of every API key; changing it makes all keys unknown.',
  },
  NODE_ACCESS_CLIENT_ID: {
    readers: ['gateway'],
    secret: true,
    meaning: 'With `NODE_ACCESS_CLIENT_SECRET`, the service token of Cloudflare Access in front of nodes.',
  },
  NODE_ACCESS_CLIENT_SECRET: {
    readers: ['gateway'],
    secret: true,
    meaning: 'The other half of that token.',
  },
  COPAL_NODE_ACCESS_HOSTS: {
    readers: ['gateway'],
    unset: 'every host',
    meaning:
      'Hosts of nodes that are sent that token, separated by commas; `*.example.com` covers all below it ([Access](deploy.md#protecting-a-node)).',
  },
  COPAL_REVOKED_NODES: {
    readers: ['gateway'],
    unset: 'none',
    meaning: 'Names of nodes whose signatures are rejected, separated by commas ([nodes](deploy.md#nodes)).',
  },
  COPAL_KEY_TRUST_MS: {
    readers: ['gateway'],
    default: 30_000,
    meaning: 'How long an isolate trusts a key that it has looked up.',
  },
  COPAL_UNKNOWN_KEYS_PER_MINUTE: {
    readers: ['gateway'],
    default: 60,
    meaning:
      'Unknown API keys that an isolate looks up for one client address (IPv6: a /64) a minute; more get a 429. 0 is no limit ([unknown keys](keys.md#unknown-keys)).',
  },
  COPAL_LISTS_PER_MINUTE: {
    readers: ['gateway'],
    default: 300,
    meaning:
      'Lists (`GET /v1/models`, `GET /admin/…`) that an isolate answers for one API key a minute, which may make a fifth as many changes under `/admin`; 0 without limit. The admin key has none ([limits](keys.md#limits)).',
  },
  COPAL_REFUSALS_PER_SECOND: {
    readers: ['gateway'],
    default: 20,
    meaning:
      'Refused requests (400 to 498) of one key, or of one client address without a valid key, that an isolate answers at once a second; it answers more after about a second. 0 delays none ([limits](keys.md#limits)).',
  },
} as const satisfies Record<string, Setting>
