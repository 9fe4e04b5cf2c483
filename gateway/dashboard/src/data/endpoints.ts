/** The endpoints that pages read. `model` may be left out while the fleet has one. */
import type {
  DriftReport,
  MaskEntry,
  NodeEntry,
  StatusReport,
  UpdateEntry,
} from '@copal/shared/wire/admin.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import type { AlertsReport, DetectorsReport, ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import type { SampleEntry } from '@copal/shared/wire/admin-samples.ts'
import type { GapsReport, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { endpoint } from './client.ts'

type Model = string | undefined
/** A list, as the admin API wraps it. */
export interface List<T> {
  data: T[]
}

/** The overview, which events bring too. */
export const overview = (model: Model) => endpoint<OverviewReport>('/admin/overview', { model })
/** Events with which the gateway pushes changes. */
export const eventsPath = (model: Model) => endpoint('/admin/events', { model }).path
/** Models and nodes. */
export const status = () => endpoint<StatusReport>('/admin/status')
/** Nodes with the last job that failed on each. */
export const nodes = () => endpoint<List<NodeEntry>>('/admin/nodes')
/** Domains with their samples. */
export const domains = (model: Model) => endpoint<List<DomainEntry>>('/admin/domains', { model })
/** Domains that were found in texts and wait for a decision. */
export const proposals = (model: Model) => endpoint<List<ProposalEntry>>('/admin/proposals', { model })
/** The last 24 hours of a domain. */
export const traffic = (domain: string, model: Model) =>
  endpoint<DomainSummary>(`/admin/domains/${encodeURIComponent(domain)}/traffic`, { model })
/** The newest kept texts of a domain. */
export const samples = (domain: string) =>
  endpoint<List<SampleEntry>>(`/admin/domains/${encodeURIComponent(domain)}/samples`)
/** Texts of a domain that are set aside. */
export const review = (domain: string) =>
  endpoint<List<ReviewEntry>>(`/admin/domains/${encodeURIComponent(domain)}/review`)
/** Series over time of a domain; `from` is ISO 8601. */
export const series = (query: { model: Model; domain: string; from: string }) =>
  endpoint<SeriesReport>('/admin/series', query)
/** What pruning costs each domain over time; `from` is ISO 8601. */
export const gaps = (query: { model: Model; from: string }) =>
  endpoint<GapsReport>('/admin/series/gaps', query)
/** Live drift and the R matrix of held-out perplexities. */
export const drift = (model: Model) => endpoint<DriftReport>('/admin/drift', { model })
/** Which domains are due for an update and why. */
export const triggers = (model: Model) => endpoint<TriggersReport>('/admin/triggers', { model })
/** The adaptation policy in force. */
export const policy = (model: Model) => endpoint<PolicyReport>('/admin/policy', { model })
/** States of the drift detectors. */
export const detectors = (model: Model) => endpoint<DetectorsReport>('/admin/detectors', { model })
/** Alerts: those that hold first. */
export const alerts = (model: Model) => endpoint<AlertsReport>('/admin/alerts', { model })
/** Scores of the probe texts by node. */
export const probes = (model: Model) => endpoint<ProbesReport>('/admin/probes', { model })
/** Masks of a model. */
export const masks = (model: Model) => endpoint<List<MaskEntry>>('/admin/masks', { model })
/** Updates, newest first. */
export const updates = () => endpoint<List<UpdateEntry>>('/admin/updates')
/** An update with its decisions. */
export const update = (id: string) => endpoint<UpdateEntry>(`/admin/updates/${encodeURIComponent(id)}`)
/** API keys that the session may see. */
export const keys = () => endpoint<List<KeyEntry>>('/admin/keys')
