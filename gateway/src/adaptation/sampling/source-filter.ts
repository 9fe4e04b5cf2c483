import type { SampleSource, SourceFilter } from '../../contracts/reservoir-object.ts'

/** Returns whether a source matches every given field of a filter. */
export function matchesFilter(
  source: Pick<SampleSource, 'keyId' | 'tenant' | 'requestId'>,
  { keyId, tenant, requestId, tenantKeyIds = [] }: SourceFilter,
): boolean {
  if (keyId !== undefined && source.keyId !== keyId) return false
  if (requestId !== undefined && source.requestId !== requestId) return false
  if (tenant === undefined) return true
  return source.tenant === '' ? tenantKeyIds.includes(source.keyId) : source.tenant === tenant
}

/** Returns the SQL condition on the table `sources` for {@link matchesFilter}, with its values. */
export function sourceCondition({ keyId, tenant, requestId, tenantKeyIds = [] }: SourceFilter): {
  condition: string
  values: string[]
} {
  const parts: [string, ...string[]][] = []
  if (keyId !== undefined) parts.push(['key_id = ?', keyId])
  if (requestId !== undefined) parts.push(['request_id = ?', requestId])
  if (tenant !== undefined) {
    const old = `tenant = '' AND key_id IN (SELECT value FROM json_each(?))`
    parts.push([`(tenant = ? OR ${old})`, tenant, JSON.stringify(tenantKeyIds)])
  }
  const conditions = parts.map(([condition]) => condition)
  return { condition: conditions.join(' AND ') || 'true', values: parts.flatMap(([, ...values]) => values) }
}
