/** Keys in words. */
import { DAY_MS } from '@copal/shared/day.ts'
import type { KeyEntry, KeyScope } from '@copal/shared/wire/admin-keys.ts'
import { formatCount, formatShare, plural } from '../../format/numbers.ts'
import type { UsageRow } from './usage-rows.ts'

/** The scopes, as tables show them. */
export const SCOPE_WORDS: Readonly<Record<KeyScope, string>> = {
  inference: 'requests',
  'read-metrics': 'metrics',
  admin: 'keys',
  'read-admin': 'reads all',
}

/** The sampling policies, as tables show them. */
export const SAMPLING_WORDS = { never: 'never', opt_in: 'when asked', always: 'always' } as const

/** Share of a month's limit from which a key is pointed out. */
export const NEAR_LIMIT = 0.9
/** Days before its end from which a key is named in the sentence. */
const NEAR_END_DAYS = 7

/** The sentence of all keys: count, tokens used, and keys near a limit or their end. */
export function keysSentence(
  keys: readonly KeyEntry[],
  rows: readonly UsageRow[] | undefined,
  nowMs: number,
): string {
  const tenants = new Set(keys.map(({ tenant }) => tenant)).size
  const used = rows?.reduce((sum, { month }) => sum + month, 0)
  const near = (rows ?? []).filter(({ share }) => share !== null && share >= NEAR_LIMIT)
  const ending = keys.filter(
    ({ expires_at: at }) =>
      at !== null && Date.parse(at) > nowMs && Date.parse(at) - nowMs < NEAR_END_DAYS * DAY_MS,
  )
  return [
    keys.length === 0
      ? 'There is no key yet, so nobody can send requests.'
      : `${plural(keys.length, 'key')} of ${plural(tenants, 'tenant')}${used === undefined ? '.' : `, ${formatCount(used)} tokens this month.`}`,
    ...near.map(({ name, share }) => `${name} has used ${formatShare(share)} of its monthly limit.`),
    ...ending.map(
      ({ name, expires_at: at }) =>
        `${name} expires in ${plural(Math.max(1, Math.ceil((Date.parse(at ?? '') - nowMs) / DAY_MS)), 'day')}.`,
    ),
  ].join(' ')
}
