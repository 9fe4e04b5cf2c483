import { FIRST_PREFIX_UNITS, MAX_PREFIX_KEYS, prefixUnits } from '@copal/shared/wire/prefix.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { PrefixSalt, PromptParts } from '../../contracts/prompt-prefix.ts'

/** Odd multipliers, so that no bit is lost, with their set bits spread widely. */
const MULTIPLIER_A = 0x9e3779b1
const MULTIPLIER_B = 0x5f356495
/** A unit that no text contains, hashed between parts so that their boundaries matter. */
const PART_SEPARATOR = 0x10000

/** The maximum number of tenants whose salts an isolate caches. */
const MAX_SALTS = 1_024

/**
 * Returns a function that derives the salt of a tenant from a secret. Without it a client could write a prompt that has
 * the keys of another tenant's prompt, and learn from the chosen node what the other tenant has sent.
 */
export function createPrefixSalts(secret: string): (tenant: string) => Promise<PrefixSalt> {
  const known = new Map<string, Promise<PrefixSalt>>()
  return (tenant) => {
    let salt = known.get(tenant)
    if (!salt) {
      if (known.size >= MAX_SALTS) known.clear()
      known.set(tenant, (salt = saltOf(secret, tenant)))
    }
    return salt
  }
}

async function saltOf(secret: string, tenant: string): Promise<PrefixSalt> {
  const text = JSON.stringify(['prefix', secret, tenant])
  const digest = await sha256(new Uint8Array(new TextEncoder().encode(text)))
  return [Number.parseInt(digest.slice(0, 8), 16), Number.parseInt(digest.slice(8, 16), 16)]
}

/** Returns whether a prompt is long enough to have a prefix key. */
export function hasPrefixKeys(parts: PromptParts): boolean {
  return unitsOf(parts) >= FIRST_PREFIX_UNITS
}

/**
 * Returns the keys of a prompt's prefixes, shortest first (`wire/prefix.ts`). Each is a 64-bit hash that is fast but not
 * cryptographic, because it only influences dispatch. Equal prefixes of one tenant have equal keys.
 */
export function prefixKeys([first, second]: PrefixSalt, parts: PromptParts): string[] {
  const keys: string[] = []
  const keyCount = Math.min(MAX_PREFIX_KEYS, countKeys(unitsOf(parts)))
  let [a, b] = [first, second]
  let units = 0
  for (const part of parts) {
    for (let from = 0; from < part.length && keys.length < keyCount;) {
      const to = Math.min(part.length, from + prefixUnits(keys.length) - units)
      // Prompts can be long; a loop over one type of unit is 1.5 times as fast.
      if (typeof part === 'string') {
        for (let i = from; i < to; i += 1) {
          const unit = part.charCodeAt(i)
          a = Math.imul(a ^ unit, MULTIPLIER_A)
          b = Math.imul(b ^ unit, MULTIPLIER_B)
        }
      } else {
        for (let i = from; i < to; i += 1) {
          const unit = part[i] as number
          a = Math.imul(a ^ unit, MULTIPLIER_A)
          b = Math.imul(b ^ unit, MULTIPLIER_B)
        }
      }
      units += to - from
      from = to
      if (units === prefixUnits(keys.length)) keys.push(keyOf(a, b))
    }
    if (keys.length === keyCount) break
    a = Math.imul(a ^ PART_SEPARATOR, MULTIPLIER_A)
    b = Math.imul(b ^ PART_SEPARATOR, MULTIPLIER_B)
  }
  return keys
}

function unitsOf(parts: PromptParts): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

function countKeys(units: number): number {
  return units < FIRST_PREFIX_UNITS ? 0 : 1 + Math.floor(Math.log2(units / FIRST_PREFIX_UNITS))
}

/** Spreads every unit over all bits, as the finalizer of MurmurHash3 does, over both halves. */
function keyOf(a: number, b: number): string {
  const high = mix(a ^ (b >>> 16)) ^ mix(b)
  const low = mix(b ^ (a >>> 16) ^ 0x5bd1e995) ^ mix(a)
  return hex32(high) + hex32(low)
}

function mix(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0')
}
