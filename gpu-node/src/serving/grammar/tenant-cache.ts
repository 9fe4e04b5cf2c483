/** Things that are remembered of each tenant apart: no other tells by the time that it takes what one has asked for. */
export interface ByTenant<T> {
  get(tenant: string, key: string): T | undefined
  /** As what its tenant used last. Of too many in all, the tenant that has the most loses what it used longest ago. */
  set(tenant: string, key: string, value: T): void
  delete(tenant: string, key: string): void
}

/** @param most that are remembered in all */
export function createByTenant<T>(most: number): ByTenant<T> {
  const tenants = new Map<string, Map<string, T>>()
  let size = 0

  const remove = (tenant: string, key: string): void => {
    const things = tenants.get(tenant)
    if (!things?.delete(key)) return
    size -= 1
    if (things.size === 0) tenants.delete(tenant)
  }

  return {
    get: (tenant, key) => tenants.get(tenant)?.get(key),
    set(tenant, key, value) {
      remove(tenant, key)
      const things = tenants.get(tenant) ?? new Map<string, T>()
      tenants.set(tenant, things.set(key, value))
      size += 1
      if (size <= most) return
      const [largest, theirs] = [...tenants].reduce((a, b) => (b[1].size > a[1].size ? b : a))
      remove(largest, theirs.keys().next().value as string)
    },
    delete: remove,
  }
}
