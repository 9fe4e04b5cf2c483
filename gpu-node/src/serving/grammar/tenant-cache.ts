/** A cache with separate entries for each tenant, so that timing does not reveal what other tenants requested. */
export interface TenantCache<T> {
  get(tenant: string, key: string): T | undefined
  /** Stores a value as the most recently used. A full cache evicts the least recently used value of the largest tenant. */
  set(tenant: string, key: string, value: T): void
  delete(tenant: string, key: string): void
}

/**
 * Creates an empty cache.
 *
 * @param maxEntries largest number of values over all tenants
 */
export function createTenantCache<T>(maxEntries: number): TenantCache<T> {
  const tenants = new Map<string, Map<string, T>>()
  let size = 0

  const remove = (tenant: string, key: string): void => {
    const entries = tenants.get(tenant)
    if (!entries?.delete(key)) return
    size -= 1
    if (entries.size === 0) tenants.delete(tenant)
  }

  return {
    get: (tenant, key) => tenants.get(tenant)?.get(key),
    set(tenant, key, value) {
      remove(tenant, key)
      const entries = tenants.get(tenant) ?? new Map<string, T>()
      tenants.set(tenant, entries.set(key, value))
      size += 1
      if (size <= maxEntries) return
      const [largest, itsEntries] = [...tenants].reduce((a, b) => (b[1].size > a[1].size ? b : a))
      remove(largest, itsEntries.keys().next().value as string)
    },
    delete: remove,
  }
}
