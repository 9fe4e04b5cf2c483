/** Fractions that bound how much of a dataset one tenant or key may give. */
export interface ShareBounds {
  /** Maximum number of bytes that are drawn. */
  maxBytes: number
  /** Maximum share of one key, and of one tenant; their fair share where fewer give text. */
  maxKeyShare: number
}

/** The bytes of the texts that a key could give, and the number of requests that brought them. */
interface KeySupply {
  bytes: number
  requests: number
}

/** What each key of each tenant could give. */
export type Supply = ReadonlyMap<string, ReadonlyMap<string, KeySupply>>

/** The maximum bytes of each tenant and of each of its keys. */
export interface Caps {
  tenants: ReadonlyMap<string, { bytes: number; keys: ReadonlyMap<string, number> }>
  /** Bytes of an ordinary request. */
  ordinary: number
}

/** The least text that an update can use, as a fraction of what it takes: a quarter of its demand. */
const LEAST_FRACTION = 1 / 5
/**
 * Where fewer tenants or keys give text than the share allows for, their fair share may be exceeded until this fraction of
 * the text is drawn, so that a busy key beside an idle one still adapts its domain.
 */
const FILLED_FRACTION = 1 / 4
/** Maximum share of a key in the text, as a multiple of its part of the requests. */
const REQUEST_FACTOR = 2
const BISECTIONS = 48

interface Share {
  share: number
  /** Whether the share is a fair share because there are few, and may be exceeded. */
  isFair: boolean
}

interface BoundedKey extends KeySupply {
  name: string
  /** Its part of the requests, in which no key counts for much more than its share. */
  part: number
  /** The number of its requests that counts in this. */
  counted: number
}

interface BoundedTenant {
  name: string
  tenant: Share
  key: Share
  keys: readonly BoundedKey[]
}

/** The parameters from which the caps of a draw are computed. */
interface Limits {
  /** Bytes up to which fair shares, and other shares, may be exceeded. */
  fairFloor: number
  strictFloor: number
  /** Maximum share of a key as a multiple of its part of the requests. */
  factor: number
  /** Bytes of an ordinary request: what any key may give, whatever its part of the requests. */
  ordinary: number
}

/**
 * Solves for the caps that keep every key and tenant within its share of what is drawn in the end.
 *
 * With the total `T`, a key gives at most `share · T`, and at most `2 · part · T` for its part of the requests, where an
 * ordinary request is always allowed. So `T` is the largest solution of `T = Σ min(supply, cap(T))`. No `cap(T) / T` grows
 * with `T`, so that bisection finds it.
 *
 * @param exempt bytes of texts without a cap, which are part of the total
 */
export function solveCaps(supply: Supply, exempt: number, { maxBytes, maxKeyShare }: ShareBounds): Caps {
  const tenants = boundTenants(supply, maxKeyShare)
  const available = tenants.reduce((sum, { keys }) => sum + bytesOf(keys), exempt)
  const usable = Math.min(maxBytes, available)
  const limits = {
    fairFloor: 0,
    // In a draw that an update can use, this is no more than the share either.
    strictFloor: maxKeyShare * usable * LEAST_FRACTION,
    factor: REQUEST_FACTOR,
    ordinary: ordinaryRequest(tenants.flatMap(({ keys }) => keys)),
  }
  const totalWith = (changes: Partial<Limits>) =>
    largest(available, (bytes) => given(tenants, exempt, bytes, { ...limits, ...changes }) >= bytes)
  const needed = Math.min(maxBytes * FILLED_FRACTION, available)
  if (totalWith({}) < needed)
    limits.fairFloor = smallest(0, available, (fairFloor) => totalWith({ fairFloor }) >= needed)
  // Where few requests have most of the text, their keys may give more of it, or else too little would be left.
  const unbounded = 1 / Math.min(...tenants.flatMap(({ keys }) => keys.map(({ part }) => part)))
  const reachable = Math.min(needed, totalWith({ factor: unbounded }))
  if (totalWith({}) < reachable)
    limits.factor = smallest(REQUEST_FACTOR, unbounded, (factor) => totalWith({ factor }) >= reachable)
  const drawn = Math.min(totalWith({}), maxBytes)
  const caps = tenants.map((bounded) => {
    const keys = bounded.keys.map((key) => [key.name, keyCap(bounded, key, drawn, limits)] as const)
    return [bounded.name, { bytes: capOf(bounded.tenant, drawn, limits), keys: new Map(keys) }] as const
  })
  return { tenants: new Map(caps), ordinary: limits.ordinary }
}

function boundTenants(supply: Supply, maxShare: number): BoundedTenant[] {
  const tenants = [...supply].map(([name, keys]) => {
    const tenant = shareOf(1, supply.size, maxShare)
    return { name, tenant, key: shareOf(tenant.share, keys.size, maxShare), keys }
  })
  const all = countRequests(tenants)
  return tenants.map((bounded) => {
    const most = countedShare(bounded.key) * all
    const keys = [...bounded.keys].map(([name, key]) => ({
      ...key,
      name,
      part: key.requests / all,
      counted: Math.min(key.requests, most),
    }))
    return { ...bounded, keys }
  })
}

function shareOf(whole: number, count: number, maxShare: number): Share {
  const fair = whole / count
  return { share: Math.max(fair, maxShare), isFair: fair > maxShare }
}

/**
 * Returns the number of requests, of which no key and no tenant counts for much more than its share: otherwise one with very
 * many would leave nothing to the others.
 */
function countRequests(
  tenants: readonly { tenant: Share; key: Share; keys: ReadonlyMap<string, KeySupply> }[],
): number {
  const counted = (count: number) => {
    let sum = 0
    for (const { tenant, key, keys } of tenants) {
      const cap = countedShare(key) * count
      const ofKeys = [...keys.values()].reduce((part, { requests }) => part + Math.min(requests, cap), 0)
      sum += Math.min(ofKeys, countedShare(tenant) * count)
    }
    return withoutRounding(sum)
  }
  return largest(counted(Infinity), (count) => counted(count) >= count)
}

/**
 * Returns the maximum share in what is counted. A fair share would count a key with many requests as one with a single request;
 * of one that counts for this much, the others still get their fair shares.
 */
function countedShare({ share, isFair }: Share): number {
  return isFair ? 1 - (1 - share) / REQUEST_FACTOR : share
}

/** Returns the median of the bytes of a request, in which the requests of a key have the mean of their lengths. */
function ordinaryRequest(keys: readonly BoundedKey[]): number {
  const half = keys.reduce((sum, { counted }) => sum + counted, 0) / 2
  const lengths = keys.map(({ bytes, requests, counted }) => ({
    length: bytes / requests,
    counted,
  }))
  let sum = 0
  for (const { length, counted } of lengths.sort((one, other) => one.length - other.length)) {
    sum += counted
    if (sum >= half) return length
  }
  return 0
}

function capOf({ share, isFair }: Share, bytes: number, { fairFloor, strictFloor }: Limits): number {
  return share >= 1 ? Infinity : Math.max(share * bytes, isFair ? fairFloor : strictFloor)
}

function keyCap({ key }: BoundedTenant, { part }: BoundedKey, bytes: number, limits: Limits): number {
  if (key.share >= 1) return Infinity
  const ofRequests = Math.max(limits.factor * part * bytes, limits.ordinary)
  return Math.min(capOf(key, bytes, limits), ofRequests)
}

function given(tenants: readonly BoundedTenant[], exempt: number, bytes: number, limits: Limits): number {
  let sum = exempt
  for (const tenant of tenants) {
    const ofKeys = tenant.keys.reduce(
      (part, key) => part + Math.min(key.bytes, keyCap(tenant, key, bytes, limits)),
      0,
    )
    sum += Math.min(ofKeys, capOf(tenant.tenant, bytes, limits))
  }
  return withoutRounding(sum)
}

/** Rounding must not end a bisection one step before a solution. */
function withoutRounding(sum: number): number {
  return sum * (1 + Number.EPSILON * 16)
}

function bytesOf(keys: readonly KeySupply[]): number {
  return keys.reduce((sum, { bytes }) => sum + bytes, 0)
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

/** Returns the smallest value from `min` to `max` for which a condition holds that holds above it; `max` if there is none. */
function smallest(min: number, max: number, holds: (value: number) => boolean): number {
  let [low, high] = [min, max]
  for (let step = 0; step < BISECTIONS; step++) {
    const middle = (low + high) / 2
    if (holds(middle)) high = middle
    else low = middle
  }
  return high
}
