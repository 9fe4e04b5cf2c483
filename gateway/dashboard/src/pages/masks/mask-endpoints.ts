import type { MaskChurn, MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import type { CanaryReport, ShadowReport } from '@copal/shared/wire/admin-trials.ts'
import { endpoint } from '../../data/client.ts'

/** The sparsity of each linear of a mask. */
export const maskLinears = (version: number, model: string | undefined) =>
  endpoint<MaskLinears>(`/admin/masks/${version}/linears`, { model })
/** The difference of two masks by linear; version 0 is dense. */
export const maskChurn = (version: number, other: number, model: string | undefined) =>
  endpoint<MaskChurn>(`/admin/masks/${version}/churn/${other}`, { model })
/** The canary of a model beside its active mask. */
export const canary = (model: string) => endpoint<CanaryReport>('/admin/canary', { model })
/** The shadow of a model beside its active mask. */
export const shadow = (model: string) => endpoint<ShadowReport>('/admin/shadow', { model })
