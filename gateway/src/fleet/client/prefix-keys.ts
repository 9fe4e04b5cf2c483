import { FIRST_PREFIX_UNITS, MAX_PREFIX_KEYS, prefixUnits } from '@copal/shared/wire/prefix.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { PrefixSalt, PromptParts } from '../../contracts/prompt-prefix.ts'

/** Odd, so that no bit is lost, and with bits all over. */
const A = 0x9e3779b1
const B = 0x5f356495
/** Where one part ends and another begins is part of the prompt. */
const END_OF_PART = 0x10000

/** Tenants whose salts an isolate remembers. */
const MAX_SALTS = 1_024

/**
 * Gives each tenant its salt, which follows from a secret: nobody can write a prompt whose keys are those of another
 * tenant's, and learn from the node that answers what others have asked.
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

/** Whether a prompt is long enough to have a key. */
export function hasPrefixKeys(parts: PromptParts): boolean {
  return unitsOf(parts) >= FIRST_PREFIX_UNITS
}

/**
 * The keys of a prompt's beginnings, shortest first (`wire/prefix.ts`): 64 bits each, of a hash that is fast and no more,
 * since they only place requests. Equal beginnings of one tenant have equal keys.
 */
export function prefixKeys([first, second]: PrefixSalt, parts: PromptParts): string[] {
  const keys: string[] = []
  const most = Math.min(MAX_PREFIX_KEYS, countKeys(unitsOf(parts)))
  let [a, b] = [first, second]
  let units = 0
  for (const part of parts) {
    for (let from = 0; from < part.length && keys.length < most;) {
      const to = Math.min(part.length, from + prefixUnits(keys.length) - units)
      // Prompts can be long, and a loop over one kind of unit is half as fast again.
      if (typeof part === 'string') {
        for (let i = from; i < to; i += 1) {
          const unit = part.charCodeAt(i)
          a = Math.imul(a ^ unit, A)
          b = Math.imul(b ^ unit, B)
        }
      } else {
        for (let i = from; i < to; i += 1) {
          const unit = part[i] as number
          a = Math.imul(a ^ unit, A)
          b = Math.imul(b ^ unit, B)
        }
      }
      units += to - from
      from = to
      if (units === prefixUnits(keys.length)) keys.push(keyOf(a, b))
    }
    if (keys.length === most) break
    a = Math.imul(a ^ END_OF_PART, A)
    b = Math.imul(b ^ END_OF_PART, B)
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
