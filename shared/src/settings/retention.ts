import type { Setting } from './setting.ts'

/** Settings of how long the gateway keeps what it stores, and how much of it. */
export const RETENTION_SETTINGS = {
  COPAL_RECEIPT_DAYS: {
    readers: ['gateway'],
    default: 30,
    meaning:
      'How long D1 keeps receipts, if they are not too many; 7 or more, 0 keeps all ([receipts](retention.md#receipts)).',
  },
  COPAL_MAX_RECEIPTS: {
    readers: ['gateway'],
    default: 16_000_000,
    meaning:
      'Above how many receipts the oldest are deleted before their days are over; 1000000 or more, 0 keeps all ([receipts](retention.md#receipts)).',
  },
  COPAL_SERIES_MINUTE_DAYS: {
    readers: ['gateway'],
    default: 2,
    meaning:
      'How long the series of traffic and drift are kept by minutes and five minutes; 2 or more, 0 keeps all ([series](retention.md#series)).',
  },
  COPAL_SERIES_HOUR_DAYS: {
    readers: ['gateway'],
    default: 60,
    meaning: 'How long these series are kept by hours; 32 or more, 0 keeps all.',
  },
  COPAL_SERIES_DAYS: {
    readers: ['gateway'],
    default: 730,
    meaning: 'How long these series are kept by days; 32 or more, 0 keeps all.',
  },
  COPAL_DATASET_DAYS: {
    readers: ['gateway'],
    default: 90,
    meaning:
      'How long the texts that updates have calibrated on are kept; then their statistics alone remain. 0 keeps all ([consent](consent.md#what-is-stored)).',
  },
  COPAL_PREVIEW_CHARACTERS: {
    readers: ['gateway'],
    default: 200,
    meaning:
      'How much of a kept text an operator is shown, redacted as it is stored; 0 shows none ([consent](consent.md#who-sees-texts)).',
  },
  COPAL_MASK_DAYS: {
    readers: ['gateway'],
    default: 90,
    meaning:
      'How long files of masks are kept that are neither in use nor pinned; 0 keeps all ([artifacts](retention.md#artifacts)).',
  },
  COPAL_AUDIT_DAYS: {
    readers: ['gateway'],
    default: 365,
    meaning: 'How long the audit log is kept; 0 keeps all ([audit log](retention.md#audit-log)).',
  },
  COPAL_HISTORY_DAYS: {
    readers: ['gateway'],
    default: 365,
    meaning:
      'How long records of updates that nothing needs are kept (jobs, decisions, losses, rejected masks), and revoked keys; 31 or more, 0 keeps all ([history](retention.md#history)).',
  },
} as const satisfies Record<string, Setting>
