/**
 * Returns items in random order. A task that can do only some of them this time does others the next time, and those that fail each
 * time do not delay others.
 */
export function inRandomOrder<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item): [number, Item] => [Math.random(), item])
    .toSorted(([a], [b]) => a - b)
    .map(([, item]) => item)
}
