import { useId, useState } from 'preact/hooks'
import { FormDialog } from '../../components/form-dialog.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { countedEntry } from '../../data/counted-entry.ts'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { plural } from '../../format/numbers.ts'
import { useStartUpdate } from './use-start-update.ts'

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
  const domains = useResource(endpoints.domains(model))
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set())
  const name = useId()
  const startUpdate = useStartUpdate(model)
  const toggle = (domain: string) => {
    const next = new Set(chosen)
    if (!next.delete(domain)) next.add(domain)
    setChosen(next)
  }
  return (
    <FormDialog
      title="Start an update"
      submit={`Update ${plural(chosen.size, 'domain')}`}
      isReady={chosen.size > 0}
      onSubmit={() => startUpdate([...chosen])}
      onClose={onClose}
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
                    <span class="soft num">
                      {countedEntry(domain) ? plural(count, 'new text') : 'not counted yet'}
                    </span>
                  </label>
                )
              })}
          </fieldset>
        )}
      </Loaded>
    </FormDialog>
  )
}
