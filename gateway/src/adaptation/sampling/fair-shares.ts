/** Fractions that bound how much of a dataset one tenant or key may give. */
export interface ShareBounds {
  /** Maximum number of characters that are drawn. */
  maxCharacters: number
  /** Maximum share of one key, and of one tenant; their fair share where fewer give text. */
  maxKeyShare: number
}

/** The characters that each key of each tenant could give. */
export type Supply = ReadonlyMap<string, ReadonlyMap<string, number>>

/** The maximum characters of a tenant or a key. */
export interface Cap {
  characters: number
  /** Whether not even a part of a text may exceed it; a fair share may be exceeded by a part of one text. */
  isStrict: boolean
}

/** Maximum characters of one tenant and of each of its keys. */
export interface Caps {
  tenant: Cap
  key: Cap
}

/** The least text that an update can use, as a fraction of what it takes: a quarter of its demand. */
const LEAST_FRACTION = 1 / 5
/**
 * Where fewer tenants or keys give text than the share allows for, their fair share may be exceeded until this fraction of
 * the text is drawn, so that a busy key beside an idle one still adapts its domain.
 */
const FILLED_FRACTION = 1 / 4
const BISECTIONS = 48

interface Share {
  share: number
  /** Whether the share is a fair share because there are few, and may be exceeded. */
  isFair: boolean
}

interface TenantSupply {
  tenant: Share
  key: Share
  keys: readonly number[]
}

/**
 * Solves for the caps that keep every key and tenant within its share of what is drawn in the end.
 *
 * With the total `T`, a key gives at most `share · T`, so `T` is the largest solution of `T = Σ min(supply, share · T)`. That
 * sum is concave in `T`, so that bisection finds it.
 *
 * @param exempt characters of texts without a cap, which are part of the total
 * @param limit the total that is drawn, if it is less than the bounds allow
 */
export function solveCaps(
  supply: Supply,
  exempt: number,
  { maxCharacters, maxKeyShare }: ShareBounds,
  limit = maxCharacters,
): Map<string, Caps> {
  const tenants = [...supply].map(([name, keys]) => ({
    name,
    ...tenantSupply(keys, supply.size, maxKeyShare),
  }))
  const available = tenants.reduce((sum, { keys }) => sum + total(keys), exempt)
  // In a draw that an update can use, this is no more than the share either.
  const strictFloor = maxKeyShare * Math.min(maxCharacters, available) * LEAST_FRACTION
  const totalAt = (fairFloor: number) =>
    largest(
      available,
      (characters) => given(tenants, exempt, characters, { fairFloor, strictFloor }) >= characters,
    )
  const needed = Math.min(maxCharacters * FILLED_FRACTION, available)
  const fairFloor = totalAt(0) >= needed ? 0 : smallest(available, (floor) => totalAt(floor) >= needed)
  const drawn = Math.min(totalAt(fairFloor), limit)
  const cap = (share: Share): Cap => ({
    characters: capOf(share, drawn, { fairFloor, strictFloor }),
    isStrict: !share.isFair,
  })
  return new Map(tenants.map(({ name, tenant, key }) => [name, { tenant: cap(tenant), key: cap(key) }]))
}

interface Floors {
  fairFloor: number
  strictFloor: number
}

function tenantSupply(keys: ReadonlyMap<string, number>, tenants: number, maxShare: number): TenantSupply {
  const tenant = shareOf(1, tenants, maxShare)
  return { tenant, key: shareOf(tenant.share, keys.size, maxShare), keys: [...keys.values()] }
}

function shareOf(whole: number, count: number, maxShare: number): Share {
  const fair = whole / count
  return { share: Math.max(fair, maxShare), isFair: fair > maxShare }
}

function capOf({ share, isFair }: Share, characters: number, { fairFloor, strictFloor }: Floors): number {
  return share >= 1 ? Infinity : Math.max(share * characters, isFair ? fairFloor : strictFloor)
}

function given(tenants: readonly TenantSupply[], exempt: number, characters: number, floors: Floors): number {
  let sum = exempt
  for (const { tenant, key, keys } of tenants) {
    const cap = capOf(key, characters, floors)
    const ofKeys = keys.reduce((part, supplied) => part + Math.min(supplied, cap), 0)
    sum += Math.min(ofKeys, capOf(tenant, characters, floors))
  }
  // Rounding must not end the bisection one step before a solution.
  return sum * (1 + Number.EPSILON * 16)
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0)
}

/** Returns the largest value from 0 to `max` for which a condition holds that holds below it. */
function largest(max: number, holds: (value: number) => boolean): number {
  if (holds(max)) return max
  let [low, high] = [0, max]
  for (let step = 0; step < BISECTIONS; step++) {
    const middle = (low + high) / 2
    if (holds(middle)) low = middle
    else high = middle
  }
  return low
}

/** Returns the smallest value from 0 to `max` for which a condition holds that holds above it; `max` if there is none. */
function smallest(max: number, holds: (value: number) => boolean): number {
  let [low, high] = [0, max]
  for (let step = 0; step < BISECTIONS; step++) {
    const middle = (low + high) / 2
    if (holds(middle)) high = middle
    else low = middle
  }
  return high
}
