/**
 * Which sequence holds which page of keys and values, and what stands in those that nobody holds any more.
 *
 * A page that was filled is remembered by its key (`page-keys.ts`) and weight set: later sequences share it
 * instead of computing it. Held pages are never taken away. Those that are only remembered go, the least
 * recently used first, when nothing else is free.
 */
import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'

/** Changed only by the functions of this file. */
export interface PagePool {
  readonly total: number
  /** How many sequences hold each page. */
  readonly holders: Uint32Array
  /** Pages that nobody holds or remembers; the last one is taken first. */
  readonly free: number[]
  /** Remembered pages that nobody holds, least recently used first. */
  readonly idle: Set<number>
  /** Remembered pages by key. */
  readonly remembered: Map<WeightSet, Map<string, number>>
  /** Under what each remembered page is. */
  readonly keys: Map<number, { weights: WeightSet; key: string }>
}

/** Pages that `tokens` tokens take. */
export function pagesFor(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS)
}

/** A pool of `total` pages, all free. */
export function createPagePool(total: number): PagePool {
  return {
    total,
    holders: new Uint32Array(total),
    free: Array.from({ length: total }, (_, index) => total - 1 - index),
    idle: new Set(),
    remembered: new Map(),
    keys: new Map(),
  }
}

/** Pages that can be taken. */
export function freePages(pool: PagePool): number {
  return pool.free.length + pool.idle.size
}

/** The remembered pages of the longest prefix that is remembered in whole, in its order. */
export function findPrefix(pool: PagePool, weights: WeightSet, keys: readonly string[]): number[] {
  const known = pool.remembered.get(weights)
  const pages: number[] = []
  for (const key of keys) {
    const page = known?.get(key)
    if (page === undefined) break
    pages.push(page)
  }
  return pages
}

/** Another sequence holds these pages. */
export function sharePages(pool: PagePool, pages: readonly number[]): void {
  for (const page of pages) {
    pool.holders[page] = holdersOf(pool, page) + 1
    pool.idle.delete(page)
  }
}

/** Takes `count` pages for one sequence. @throws Error when fewer can be taken: the caller looks first */
export function takePages(pool: PagePool, count: number): number[] {
  if (count > freePages(pool)) throw new Error(`${count} pages are wanted, ${freePages(pool)} can be taken`)
  return Array.from({ length: Math.max(0, count) }, () => {
    const page = pool.free.pop() ?? forgetOldest(pool)
    pool.holders[page] = 1
    return page
  })
}

/**
 * A sequence gives its pages up, `pages` in their order. The last one becomes the least recently used: a prefix
 * is forgotten from its end.
 */
export function releasePages(pool: PagePool, pages: readonly number[]): void {
  for (const page of pages.toReversed()) {
    const left = holdersOf(pool, page) - 1
    pool.holders[page] = left
    if (left > 0) continue
    if (pool.keys.has(page)) pool.idle.add(page)
    else pool.free.push(page)
  }
}

/** Remembers a page that is held, unless another one has the same content already. */
export function rememberPage(pool: PagePool, weights: WeightSet, key: string, page: number): void {
  let known = pool.remembered.get(weights)
  if (!known) pool.remembered.set(weights, (known = new Map()))
  if (known.has(key) || pool.keys.has(page)) return
  known.set(key, page)
  pool.keys.set(page, { weights, key })
}

/** Forgets what weights that are gone have computed. */
export function forgetPages(pool: PagePool, weights: WeightSet): void {
  for (const page of pool.remembered.get(weights)?.values() ?? []) {
    pool.keys.delete(page)
    if (pool.idle.delete(page)) pool.free.push(page)
  }
  pool.remembered.delete(weights)
}

/** Sequences that hold a page. */
export function holdersOf(pool: PagePool, page: number): number {
  return pool.holders[page] as number
}

function forgetOldest(pool: PagePool): number {
  const [page] = pool.idle
  const known = page === undefined ? undefined : pool.keys.get(page)
  if (page === undefined || !known) throw new Error('no page can be taken')
  pool.idle.delete(page)
  pool.keys.delete(page)
  pool.remembered.get(known.weights)?.delete(known.key)
  return page
}
