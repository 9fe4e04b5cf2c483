/** Pages, outcomes and changes that entries of the audit log refer to. */
import type { AuditEntry } from '@copal/shared/wire/admin-audit.ts'
import { paths } from '../../navigation/routes.ts'

/** The page of an entry's target; `undefined` where there is none. */
export function targetPath({ action, target }: Pick<AuditEntry, 'action' | 'target'>): string | undefined {
  const id = target.split('/').at(-1) ?? ''
  if (target.startsWith('key_')) return `/keys?q=${encodeURIComponent(target)}`
  if (/^upd[-_]/.test(target) || action.includes('/updates/')) return paths.update(target)
  const mask = /^m(\d+)$/.exec(id)
  if (mask) return paths.mask(Number(mask[1]))
  if (action.includes('/domains/')) return paths.domain(target)
  if (action.includes('/nodes/') || action.startsWith('node.'))
    return `${paths.nodes()}?q=${encodeURIComponent(target)}`
  if (action.includes('/tenants/')) return `/keys?view=tenants&q=${encodeURIComponent(target)}`
  return undefined
}

/** The page of an actor; `undefined` for the admin key and the service. */
export function actorPath(actor: string): string | undefined {
  const [kind, id] = actor.split(':')
  if (kind === 'node' && id !== undefined) return `${paths.nodes()}?q=${encodeURIComponent(id)}`
  if (kind === 'key' && id !== undefined) return `/keys?q=${encodeURIComponent(id)}`
  return actor.startsWith('key_') ? `/keys?q=${encodeURIComponent(actor)}` : undefined
}

/** The outcome of an action, in a word; empty where the entry has none. */
export function outcomeOf(after: unknown): string {
  if (typeof after !== 'object' || after === null) return ''
  for (const name of ['error', 'verdict', 'outcome', 'status'])
    if (name in after) return wordOf(Reflect.get(after, name))
  return ''
}

function wordOf(outcome: unknown): string {
  if (typeof outcome === 'number' && outcome >= 200 && outcome < 300) return 'done'
  return String(outcome).replaceAll('_', ' ')
}

/** Fields with the outcome rather than a change. */
const OUTCOME_FIELDS = new Set(['status', 'error', 'verdict', 'outcome'])

/** Characters of a value that are shown. */
const MAX_SHOWN = 160

function shorten(json: string | undefined): string | undefined {
  return json === undefined || json.length <= MAX_SHOWN ? json : `${json.slice(0, MAX_SHOWN)}…`
}

/** Differences between the state before and after, one line a field. */
export function changesOf({ before, after }: Pick<AuditEntry, 'before' | 'after'>): string[] {
  const old = fieldsOf(before)
  const now = fieldsOf(stateOf(after))
  return [...new Set([...Object.keys(old), ...Object.keys(now)])].flatMap((name) => {
    if (OUTCOME_FIELDS.has(name)) return []
    const [oldJson, newJson] = [JSON.stringify(old[name]), JSON.stringify(now[name])]
    if (oldJson === newJson) return []
    const [from, to] = [shorten(oldJson), shorten(newJson)]
    if (from === undefined) return [`${name}: ${to}`]
    return [`${name}: ${from} → ${to ?? 'removed'}`]
  })
}

/** Admin calls record their status, and beside it the state that they left. */
function stateOf(after: unknown): unknown {
  return typeof after === 'object' && after !== null && 'status' in after && 'state' in after
    ? after.state
    : after
}

function fieldsOf(value: unknown): Record<string, unknown> {
  if (value === null || value === undefined) return {}
  return typeof value === 'object' && !Array.isArray(value) ? { ...value } : { value }
}
