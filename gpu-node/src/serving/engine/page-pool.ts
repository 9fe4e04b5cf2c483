/**
 * Tracks which sequences hold which pages of keys and values, and what pages without a holder contain.
 *
 * A filled page is cached by its key (`page-keys.ts`) and weight set, so that later sequences share it instead of
 * computing it. Held pages are never evicted. Cached pages without a holder are evicted, the least recently used first,
 * when no other page is free.
 */
import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'

/** The pages of the key/value budget. Only the functions in this file change it. */
export interface PagePool {
  readonly total: number
  /** How many sequences hold each page. */
  readonly holders: Uint32Array
  /** Pages that are neither held nor cached; the last one is taken first. */
  readonly free: number[]
  /** Cached pages without a holder, the least recently used first. */
  readonly idle: Set<number>
  /** Cached pages by key. */
  readonly cached: Map<WeightSet, Map<string, number>>
  /** Weight set and key of each cached page. */
  readonly keys: Map<number, { weights: WeightSet; key: string }>
}

/** Returns the number of pages that `tokens` tokens take. */
export function pagesFor(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS)
}

/** Creates a pool of `total` pages, all free. */
export function createPagePool(total: number): PagePool {
  return {
    total,
    holders: new Uint32Array(total),
    free: Array.from({ length: total }, (_, index) => total - 1 - index),
    idle: new Set(),
    cached: new Map(),
    keys: new Map(),
  }
}

/** Returns the number of pages that can be taken. */
export function freePages(pool: PagePool): number {
  return pool.free.length + pool.idle.size
}

/** Returns the pages of the longest prefix that is cached as a whole, in its order. */
export function findPrefix(pool: PagePool, weights: WeightSet, keys: readonly string[]): number[] {
  const known = pool.cached.get(weights)
  const pages: number[] = []
  for (const key of keys) {
    const page = known?.get(key)
    if (page === undefined) break
    pages.push(page)
  }
  return pages
}

/** Adds a holder to each of these pages. */
export function sharePages(pool: PagePool, pages: readonly number[]): void {
  for (const page of pages) {
    pool.holders[page] = holdersOf(pool, page) + 1
    pool.idle.delete(page)
  }
}

/** Takes `count` pages for one sequence. @throws Error when fewer can be taken: the caller checks first */
export function takePages(pool: PagePool, count: number): number[] {
  if (count > freePages(pool)) throw new Error(`${count} pages are needed, ${freePages(pool)} are free`)
  return Array.from({ length: Math.max(0, count) }, () => {
    const page = pool.free.pop() ?? evictOldest(pool)
    pool.holders[page] = 1
    return page
  })
}

/**
 * Removes a holder from each of a sequence's `pages`, given in their order. The last page becomes the least recently used
 * one, so a prefix is evicted from its end.
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

/** Caches a held page, unless another page has the same content already. */
export function cachePage(pool: PagePool, weights: WeightSet, key: string, page: number): void {
  let known = pool.cached.get(weights)
  if (!known) pool.cached.set(weights, (known = new Map()))
  if (known.has(key) || pool.keys.has(page)) return
  known.set(key, page)
  pool.keys.set(page, { weights, key })
}

/** Evicts all pages of a weight set that is gone. */
export function evictPages(pool: PagePool, weights: WeightSet): void {
  for (const page of pool.cached.get(weights)?.values() ?? []) {
    pool.keys.delete(page)
    if (pool.idle.delete(page)) pool.free.push(page)
  }
  pool.cached.delete(weights)
}

/** Returns the number of sequences that hold a page. */
export function holdersOf(pool: PagePool, page: number): number {
  return pool.holders[page] as number
}

function evictOldest(pool: PagePool): number {
  const [page] = pool.idle
  const known = page === undefined ? undefined : pool.keys.get(page)
  if (page === undefined || !known) throw new Error('no page can be taken')
  pool.idle.delete(page)
  pool.keys.delete(page)
  pool.cached.get(known.weights)?.delete(known.key)
  return page
}
