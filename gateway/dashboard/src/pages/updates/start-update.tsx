import { useId, useState } from 'preact/hooks'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { Dialog } from '../../components/dialog.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { toApiError } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { formatCount, plural } from '../../format/numbers.ts'
import { useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'

/** Starts an update of domains that an operator chooses. */
export function StartUpdateButton({ isRunning, model }: { isRunning: boolean; model: string | undefined }) {
  const [isOpen, setOpen] = useState(false)
  return (
    <>
      <button
        type="button"
        class="button button-plain"
        disabled={isRunning}
        title={isRunning ? 'A model has one update at a time.' : undefined}
        onClick={() => setOpen(true)}
      >
        Start an update
      </button>
      {isOpen && <StartUpdateDialog model={model} onClose={() => setOpen(false)} />}
    </>
  )
}

function StartUpdateDialog({ model, onClose }: { model: string | undefined; onClose: () => void }) {
  const client = useClient()
  const { go } = useNavigation()
  const domains = useResource(endpoints.domains(model))
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set())
  const [problem, setProblem] = useState<string>()
  const [isBusy, setBusy] = useState(false)
  const name = useId()
  const start = async () => {
    setBusy(true)
    try {
      const body = { domains: [...chosen], ...(model === undefined ? {} : { model }) }
      const update = await client.send<UpdateEntry>('POST', '/admin/updates', body)
      client.refresh('/admin/updates', '/admin/triggers')
      onClose()
      go(paths.update(update.id))
    } catch (cause) {
      setProblem(toApiError(cause).message)
      setBusy(false)
    }
  }
  const toggle = (domain: string) => {
    const next = new Set(chosen)
    if (!next.delete(domain)) next.add(domain)
    setChosen(next)
  }
  return (
    <Dialog title="Start an update" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void start()
        }}
      >
        <p>
          A node calibrates a new mask on the texts of these domains beside what is known of the others. The
          active mask goes on serving until the new one passes the gate.
        </p>
        <Loaded resource={domains}>
          {({ data }) => (
            <fieldset class="options">
              <legend>Domains</legend>
              {data.length === 0 && <p class="soft">There is no domain yet.</p>}
              {data
                .toSorted((a, b) => (b.new_samples ?? b.samples) - (a.new_samples ?? a.samples))
                .map((domain) => {
                  const count = domain.new_samples ?? domain.samples
                  return (
                    <label key={domain.name}>
                      <input
                        type="checkbox"
                        name={name}
                        checked={chosen.has(domain.name)}
                        onChange={() => toggle(domain.name)}
                      />
                      <span>{domain.name}</span>
                      <span class="soft num">{formatCount(count)} new texts</span>
                    </label>
                  )
                })}
            </fieldset>
          )}
        </Loaded>
        {problem !== undefined && (
          <p class="harm" role="alert">
            <span aria-hidden="true">▲</span> {problem}
          </p>
        )}
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose}>
            Leave it
          </button>
          <button
            type="submit"
            class="button button-plain button-filled"
            disabled={chosen.size === 0 || isBusy}
          >
            {isBusy ? 'Working …' : `Update ${plural(chosen.size, 'domain')}`}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
