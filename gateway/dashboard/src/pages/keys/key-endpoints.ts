import type { TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import type { UsageReport } from '@copal/shared/wire/admin-usage.ts'
import { endpoint } from '../../data/client.ts'
import type { List } from '../../data/endpoints.ts'

/** Tenants that the session may see. */
export const tenants = () => endpoint<List<TenantEntry>>('/admin/tenants')
/** Tokens by key and day. */
export const usage = (days: number) => endpoint<UsageReport>('/admin/usage', { days })
