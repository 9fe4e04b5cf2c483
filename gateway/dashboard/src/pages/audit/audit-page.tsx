import { useMemo, useState } from 'preact/hooks'
import { DAY_MS } from '@copal/shared/day.ts'
import type { AuditEntry, AuditPage as NewestPage } from '@copal/shared/wire/admin-audit.ts'
import { Folded } from '../../components/folded.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty } from '../../components/notices.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useToast } from '../../components/toast.tsx'
import { toApiError } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import { plural } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { useNavigation } from '../../navigation/navigation.tsx'
import { newestAudit, type AuditFilter } from './audit-endpoints.ts'
import { joinNewest, type ShownEntries } from './audit-entries.ts'
import { actorPath, changesOf, outcomeOf, targetPath } from './audit-links.ts'
import { VerifyChain } from './verify-button.tsx'

/** The audit log, newest first, and a check of its hashes. */
export function AuditPage() {
  const { query, setQuery } = useNavigation()
  const actor = query.get('actor') ?? undefined
  const target = query.get('target') ?? undefined
  const newest = useResource(newestAudit({ actor, target }), 30_000)
  const { entries, next, isLoading, loadOlder } = useEntries({ actor, target }, newest.value)
  const filters = [
    ...(actor === undefined ? [] : [{ name: 'actor', text: `by ${actor}` }]),
    ...(target === undefined ? [] : [{ name: 'target', text: `about ${target}` }]),
  ]
  return (
    <Page
      title="Audit"
      sentence={sentenceWhenLoaded(newest, () => (
        <p>{sentenceOf(entries, next !== null)}</p>
      ))}
    >
      <VerifyChain />
      <Section title="Entries">
        {filters.length > 0 && (
          <p class="filters">
            Only entries{' '}
            {filters.map(({ name, text }) => (
              <button
                key={name}
                type="button"
                class="button button-small"
                title="Show others too"
                onClick={() => setQuery({ [name]: null })}
              >
                {text} ×
              </button>
            ))}
          </p>
        )}
        <Loaded resource={newest}>
          {() => (
            <>
              <Table
                caption="Entries of the audit log, newest first"
                columns={columnsOf((name, value) => setQuery({ [name]: value }))}
                rows={entries}
                rowKey={({ id }) => String(id)}
                filter
                csv="copal-audit"
                limit={50}
                empty={
                  <Empty title={filters.length > 0 ? 'No entry matches.' : 'The log is empty.'}>
                    <p>
                      Every change by a key, every decision of the service and every node that comes or goes
                      is kept here.
                    </p>
                  </Empty>
                }
              />
              {next !== null && (
                <button type="button" class="button" disabled={isLoading} onClick={() => loadOlder(next)}>
                  {isLoading ? 'Loading …' : 'Load older entries'}
                </button>
              )}
            </>
          )}
        </Loaded>
      </Section>
    </Page>
  )
}

function sentenceOf(entries: readonly AuditEntry[], hasMore: boolean): string {
  const [newest] = entries
  if (!newest) return 'Nothing is recorded.'
  const dayAgo = Date.now() - DAY_MS
  const today = entries.filter(({ created_at: at }) => at >= dayAgo)
  const actors = new Set(today.map(({ actor }) => actor))
  const rejected = today.filter(({ after }) => isError(after)).length
  const count = `${hasMore && today.length === entries.length ? 'More than ' : ''}${plural(today.length, 'entry', 'entries')}`
  return `${count} in the last 24 hours by ${plural(actors.size, 'actor')}${rejected > 0 ? `; ${rejected} of them ${rejected === 1 ? 'was' : 'were'} rejected` : ''}. Entry ${newest.id} is the newest.`
}

function isError(after: unknown): boolean {
  return typeof after === 'object' && after !== null && 'error' in after
}

/** The newest page, which comes anew every half minute, and older ones, which are loaded by hand and kept while the filter stays. */
function useEntries(filter: AuditFilter, newest: NewestPage | undefined) {
  const client = useClient()
  const toast = useToast()
  const key = newestAudit(filter).path
  const [kept, setKept] = useState<ShownEntries & { key: string }>()
  const [isLoading, setLoading] = useState(false)
  const shown = useMemo(
    () => (newest ? joinNewest(kept?.key === key ? kept : undefined, newest) : { entries: [], next: null }),
    [newest, kept, key],
  )
  const loadOlder = (before: number) => {
    setLoading(true)
    client
      .get(newestAudit(filter, before))
      .then(
        ({ data, next_before: next = null }) => setKept({ key, entries: [...shown.entries, ...data], next }),
        (cause: unknown) => toast(toApiError(cause).message, 'harm'),
      )
      .finally(() => setLoading(false))
  }
  return { ...shown, isLoading, loadOlder }
}

function columnsOf(narrow: (name: 'actor' | 'target', value: string) => void): Column<AuditEntry>[] {
  return [
    {
      key: 'id',
      title: 'Entry',
      align: 'end',
      phone: 'second',
      value: ({ id }) => id,
      cell: ({ id, hash, request_id: request }) => (
        <span class="num" title={`Hash ${hash}${request === null ? '' : `\nRequest ${request}`}`}>
          {id}
        </span>
      ),
    },
    {
      key: 'time',
      title: 'Time',
      phone: 'second',
      value: ({ created_at: at }) => new Date(at).toISOString(),
      cell: ({ created_at: at }) => <Time at={at} as="clock" />,
    },
    {
      key: 'actor',
      title: 'Who',
      phone: 'second',
      value: ({ actor }) => actor,
      cell: ({ actor }) => (
        <Named text={actor} path={actorPath(actor)} onNarrow={() => narrow('actor', actor)} />
      ),
    },
    {
      key: 'action',
      title: 'Action',
      phone: 'first',
      value: ({ action }) => action,
      cell: ({ action }) => <code class="action">{action}</code>,
    },
    {
      key: 'target',
      title: 'To what',
      phone: 'second',
      value: ({ target }) => target,
      cell: (entry) =>
        entry.target === '' ? null : (
          <Named
            text={entry.target}
            path={targetPath(entry)}
            onNarrow={() => narrow('target', entry.target)}
          />
        ),
    },
    {
      key: 'outcome',
      title: 'Outcome',
      phone: 'first',
      value: ({ after }) => outcomeOf(after),
      cell: ({ after }) =>
        isError(after) ? <Status tone="harm">{outcomeOf(after)}</Status> : <span>{outcomeOf(after)}</span>,
    },
    {
      key: 'reason',
      title: 'Reason and change',
      phone: 'bare',
      value: (entry) => [entry.reason, ...changesOf(entry)].join(' ').trim(),
      cell: (entry) => <Change entry={entry} />,
    },
  ]
}

/** A name that links to its page, and a button that shows only its entries. */
function Named({ text, path, onNarrow }: { text: string; path: string | undefined; onNarrow: () => void }) {
  return (
    <span class="named">
      {path === undefined ? (
        <span title={text}>{text}</span>
      ) : (
        <Link to={path} title={text}>
          {text}
        </Link>
      )}
      <button
        type="button"
        class="quiet"
        onClick={onNarrow}
        aria-label={`Only entries of ${text}`}
        title="Only these"
      >
        ⌕
      </button>
    </span>
  )
}

function Change({ entry }: { entry: AuditEntry }) {
  const changes = changesOf(entry)
  return (
    <>
      {entry.reason !== '' && <Folded text={entry.reason} />}
      {changes.length > 0 && (
        <details class="more">
          <summary>
            {entry.before === null ? 'Details' : `${plural(changes.length, 'field')} changed`}
          </summary>
          <ul class="changes">
            {changes.map((change) => (
              <li key={change}>
                <code>{change}</code>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  )
}
