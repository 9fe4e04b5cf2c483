import type { SampleEntry } from '@copal/shared/wire/admin-samples.ts'
import { Loaded } from '../../components/loaded.tsx'
import { Time } from '../../components/time.tsx'
import { useResource } from '../../data/data.tsx'
import { samples } from '../../data/endpoints.ts'
import { formatCount } from '../../format/numbers.ts'

/** The kept texts that came last, with their redacted beginnings. Asked for when it is opened. */
export function NewestTexts({ name }: { name: string }) {
  const resource = useResource(samples(name), 60_000)
  return (
    <Loaded resource={resource}>
      {({ data }) =>
        data.length === 0 ? (
          <p class="soft">No text of it is kept.</p>
        ) : (
          <ul>
            {data.map((entry) => (
              <NewestText key={entry.id} entry={entry} />
            ))}
          </ul>
        )
      }
    </Loaded>
  )
}

function NewestText({ entry }: { entry: SampleEntry }) {
  return (
    <li class="proposal">
      <div class="proposal-what">
        {entry.preview !== '' && <blockquote>{entry.preview}</blockquote>}
        <p class="soft chart-note">
          {formatCount(entry.characters)} characters, of key {entry.key}
          {entry.tenant === '' ? '' : `, tenant ${entry.tenant}`}
          {entry.side === 'holdout' ? ', held out' : entry.taken ? ', calibrated on' : ''}
          {entry.last_seen_at !== null && (
            <>
              , <Time at={entry.last_seen_at} />
            </>
          )}
        </p>
      </div>
    </li>
  )
}
