import type { Setting } from './setting.ts'

/** Settings of updates, and of the texts that they read. */
export const ADAPTATION_SETTINGS = {
  COPAL_ADAPTATION: {
    readers: ['gateway'],
    default: 'production',
    meaning:
      'The policy of models for which none is set: `production` (gate, canary, watch) or `local` (gate, promote, watch), which `npm start` sets ([canary and watch](architecture/gate.md#canary)).',
  },
  COPAL_RECOGNISER_URL: {
    readers: ['gateway'],
    unset: 'none',
    meaning:
      'An endpoint that finds names and addresses in redacted texts before they are stored: https, or http on this machine ([recogniser](consent.md#names-and-addresses)).',
  },
  COPAL_RECOGNISER_TOKEN: {
    readers: ['gateway'],
    secret: true,
    meaning: 'The bearer token for that endpoint.',
  },
} as const satisfies Record<string, Setting>
