//! Steps: an upload, commands, and a download.

use super::calls::{self, DriverError, written};
use super::context::{BindingLife, Calls, Owned, lock};
use super::graphs::{Entry, Found, Graphs};
use super::kernels::Signature;
use super::memory::{Buffer, Pinned};
use super::{Cuda, next_id};
use crate::device::kernel::CALL_BYTES;
use crate::device::{self, Command, OWN};
use crate::fault::DeviceFault;
use cudarc::driver::sys::{
    CUdeviceptr, CUfunction, CUgraphExec, CUmodule, CUresult, CUstream, CUstreamCaptureMode,
};
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Weak};

/// Fewer kernels than these are not worth a graph.
const MIN_GRAPH_KERNELS: usize = 8;
/// The largest number of buffers that a kernel takes.
pub(super) const MAX_BUFFERS: usize = 8;
/// The least size of pinned memory.
const MIN_PINNED_BYTES: usize = 1 << 16;

/// A compiled kernel.
pub(crate) struct Kernel {
    id: u64,
    function: CUfunction,
    signature: Signature,
    /// Holds the function.
    _module: Arc<Owned<CUmodule>>,
}

// SAFETY: the driver's handles are valid on every thread.
unsafe impl Send for Kernel {}
// SAFETY: as above; launching a function does not change it.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// # Safety
    /// The module must hold the function, whose signature must be this.
    pub(super) unsafe fn new(
        module: &Arc<Owned<CUmodule>>,
        function: CUfunction,
        signature: Signature,
    ) -> Kernel {
        assert!(signature.buffers <= MAX_BUFFERS, "no kernel takes more");
        Kernel { id: next_id(), function, signature, _module: Arc::clone(module) }
    }

    /// # Safety
    /// The buffers must be those of the kernel, and live until it has run.
    unsafe fn launch(
        &self,
        (step, offset): (&Bound, u32),
        bound: &Bound,
        (x, y): (u32, u32),
        stream: CUstream,
    ) -> Result<(), DriverError> {
        let Signature { threads, has_call, .. } = self.signature;
        let call = offset / 4;
        let mut parameters: [*mut c_void; 2 + MAX_BUFFERS] = [ptr::null_mut(); _];
        let mut rest = &mut parameters[..];
        if has_call {
            rest[0] = ptr::from_ref(&step.addresses[0]).cast_mut().cast();
            rest[1] = ptr::from_ref(&call).cast_mut().cast();
            rest = &mut rest[2..];
        }
        for (parameter, address) in rest.iter_mut().zip(&bound.addresses) {
            *parameter = ptr::from_ref(address).cast_mut().cast();
        }
        // SAFETY: the function takes these parameters, which the driver copies before it returns.
        unsafe {
            let parameters = parameters.as_mut_ptr();
            calls::cuLaunchKernel(
                self.function,
                x,
                y,
                1,
                threads,
                1,
                1,
                0,
                stream,
                parameters,
                ptr::null_mut(),
            )
        }
    }
}

/// The buffers of a kernel, in order. They live as long as this does.
pub(crate) struct Bound {
    id: u64,
    buffers: Box<[Buffer]>,
    addresses: Box<[CUdeviceptr]>,
    life: Arc<BindingLife>,
}

impl Bound {
    pub(in crate::device) fn new<'a>(buffers: impl Iterator<Item = &'a Buffer>) -> Bound {
        let buffers: Box<[Buffer]> = buffers.cloned().collect();
        let life = BindingLife::new(buffers[0].context());
        Bound { id: next_id(), addresses: buffers.iter().map(Buffer::address).collect(), buffers, life }
    }
}

/// What steps use one after the other.
#[derive(Default)]
pub(super) struct StepState {
    upload: Option<Pinned>,
    results: Option<Pinned>,
    pub(super) graphs: Graphs<Graph>,
    /// Bindings that had been dropped when graphs were last destroyed for it.
    dropped_bindings: u64,
    /// The list of the commands of a step; kept for its memory.
    list: Vec<Entry>,
}

/// A list of commands that the driver repeats.
pub(super) struct Graph {
    launchable: Owned<CUgraphExec>,
    /// The bindings of the list.
    bindings: Box<[Weak<BindingLife>]>,
}

impl Graph {
    /// Whether the list can be passed again.
    fn is_usable(&self) -> bool {
        self.bindings.iter().all(|binding| binding.strong_count() > 0)
    }
}

impl Cuda {
    /// Writes words to the start of a buffer, runs lists of commands in order, and reads floats from the start of another
    /// buffer. Each list becomes a graph for itself if it repeats.
    pub(in crate::device) fn run_lists(
        &self,
        upload: Option<(&Buffer, &[u32])>,
        lists: &[&[Command<'_>]],
        results: Option<(&Buffer, usize)>,
    ) -> Result<Vec<f32>, DeviceFault> {
        // Before anything is queued, so that nothing is in flight when a caller has made a mistake.
        let fits = |buffer: &Buffer, count: usize| buffer.has(0, 4 * count as u64);
        assert!(upload.is_none_or(|(buffer, words)| fits(buffer, words.len())), "an upload beyond a buffer");
        assert!(results.is_none_or(|(buffer, count)| fits(buffer, count)), "results beyond a buffer");
        lists.iter().copied().flatten().for_each(check);
        let mut state = lock(&self.state);
        let entered = self.enter()?;
        let queued = self.queue(&entered, &mut state, upload, lists, results);
        // After an error, too: what was queued uses the memory of this step.
        self.finish(&entered, "a step", self.steps.raw())?;
        queued?;
        let pinned = state.results.as_ref();
        Ok(pinned.zip(results).map_or(Vec::new(), |(pinned, (_, count))| pinned.floats(&entered, count)))
    }

    /// Lists of many kernels that had no graph.
    #[cfg(test)]
    pub(crate) fn lists_without_graph(&self) -> usize {
        lock(&self.state).graphs.misses()
    }

    /// Queues a step.
    fn queue(
        &self,
        entered: &Calls<'_>,
        state: &mut StepState,
        upload: Option<(&Buffer, &[u32])>,
        lists: &[&[Command<'_>]],
        results: Option<(&Buffer, usize)>,
    ) -> Result<(), DeviceFault> {
        let (what, stream) = ("a step", self.steps.raw());
        if let Some((buffer, words)) = upload.filter(|(_, words)| !words.is_empty()) {
            let bytes: &[u8] = bytemuck::cast_slice(words);
            let pinned = self.reserve(entered, &mut state.upload, bytes.len())?;
            pinned.write(entered, bytes);
            // SAFETY: both have room, and live until the stream was waited for.
            let copied = unsafe {
                calls::cuMemcpyHtoDAsync_v2(buffer.address(), pinned.address(), bytes.len(), stream)
            };
            self.checked(what, copied)?;
        }
        for commands in lists {
            // SAFETY: they were checked, and who passed them holds their buffers until the stream was waited for.
            self.checked(what, unsafe { self.run_list(state, commands) })?;
        }
        if let Some((buffer, count)) = results.filter(|&(_, count)| count > 0) {
            let bytes = 4 * count;
            let pinned = self.reserve(entered, &mut state.results, bytes)?;
            // SAFETY: as for the upload.
            let copied =
                unsafe { calls::cuMemcpyDtoHAsync_v2(pinned.address(), buffer.address(), bytes, stream) };
            self.checked(what, copied)?;
        }
        Ok(())
    }

    /// Makes room in pinned memory that the device does not use.
    fn reserve<'a>(
        &self,
        entered: &Calls<'_>,
        pinned: &'a mut Option<Pinned>,
        bytes: usize,
    ) -> Result<&'a mut Pinned, DeviceFault> {
        if pinned.as_ref().is_none_or(|pinned| pinned.bytes() < bytes) {
            *pinned = None;
            let bytes = bytes.next_power_of_two().max(MIN_PINNED_BYTES);
            *pinned = Some(self.checked("a step", Pinned::new(&self.context, entered, bytes))?);
        }
        Ok(pinned.as_mut().expect("there is room now"))
    }

    /// Queues commands, as a graph from the second time on that the same list is run.
    ///
    /// # Safety
    /// As of [`enqueue`].
    unsafe fn run_list(&self, state: &mut StepState, commands: &[Command<'_>]) -> Result<(), DriverError> {
        let (StepState { graphs, list, dropped_bindings, .. }, stream) = (state, self.steps.raw());
        let dropped = self.context.dropped_bindings();
        if std::mem::replace(dropped_bindings, dropped) != dropped {
            graphs.retain(Graph::is_usable);
        }
        // SAFETY: passed on.
        let run = || unsafe { enqueue(commands, stream) };
        let kernels = commands.iter().filter(|command| matches!(command, Command::Run { .. }));
        if kernels.count() < MIN_GRAPH_KERNELS {
            return run();
        }
        list.clear();
        list.extend(commands.iter().map(entry));
        let graph = match graphs.find(list) {
            Found::New => return run(),
            Found::Graph(graph) => Ok(graph),
            // SAFETY: passed on.
            Found::Repeated => unsafe { self.capture(commands) }
                .map(|launchable| graphs.insert(list, Graph { launchable, bindings: bindings(commands) })),
        };
        // SAFETY: the list names only buffers and kernels that live, and the graph is that of the list.
        let launched =
            graph.and_then(|graph| unsafe { calls::cuGraphLaunch(graph.launchable.raw(), stream) });
        match launched {
            Err(error) if error.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
                graphs.clear();
                run()
            }
            launched => launched,
        }
    }

    /// Makes a graph of commands, without running them.
    ///
    /// # Safety
    /// As of [`enqueue`], whenever the graph is launched.
    unsafe fn capture(&self, commands: &[Command<'_>]) -> Result<Owned<CUgraphExec>, DriverError> {
        let stream = self.steps.raw();
        // Other threads may allocate meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is not capturing, and this thread ends the capture. Both graphs are destroyed by their functions.
        unsafe {
            calls::cuStreamBeginCapture_v2(stream, mode)?;
            let queued = enqueue(commands, stream);
            let graph = written(|graph| calls::cuStreamEndCapture(stream, graph));
            // Owned before the first error returns: the capture of commands of which one failed may still make a graph.
            let graph = Owned::new(&self.context, graph, calls::cuGraphDestroy);
            queued?;
            let graph = graph?;
            let launchable =
                written(|launchable| calls::cuGraphInstantiateWithFlags(launchable, graph.raw(), 0));
            Owned::new(&self.context, launchable, calls::cuGraphExecDestroy)
        }
    }
}

/// The bindings of commands.
fn bindings(commands: &[Command<'_>]) -> Box<[Weak<BindingLife>]> {
    let runs = commands.iter().filter_map(|command| match *command {
        Command::Run { call: (step, _), bound, .. } => Some([step, bound]),
        Command::Clear(_) | Command::Copy { .. } | Command::Submit => None,
    });
    runs.flatten().map(|bound| Arc::downgrade(&bound_of(bound).life)).collect()
}

/// Panics if a command is not within its buffers, or has those of another kernel.
fn check(command: &Command<'_>) {
    match *command {
        Command::Run { kernel, call: (step, offset), bound, .. } => {
            let Signature { buffers, has_call, .. } = cuda(kernel).signature;
            assert_eq!(bound_of(bound).buffers.len(), buffers, "the buffers of another kernel");
            let data = &bound_of(step).buffers[0];
            let is_call = data.has(offset.into(), CALL_BYTES) && offset.is_multiple_of(4);
            assert!(is_call || !has_call, "not a call");
        }
        Command::Clear(_) | Command::Submit => {}
        Command::Copy { from: (from, from_byte), to: (to, to_byte), bytes } => {
            let is_within = from.cuda().has(from_byte, bytes) && to.cuda().has(to_byte, bytes);
            assert!(is_within, "a copy beyond a buffer");
        }
    }
}

/// Queues commands one by one.
///
/// # Safety
/// The commands must have been checked, and their buffers must live until they have run.
unsafe fn enqueue(commands: &[Command<'_>], stream: CUstream) -> Result<(), DriverError> {
    for command in commands {
        match *command {
            // The driver rejects what has nothing to do.
            Command::Run { groups: (0, _) | (_, 0), .. }
            | Command::Copy { bytes: 0, .. }
            | Command::Submit => {}
            Command::Run { kernel, call: (step, offset), bound, groups } => {
                // SAFETY: passed on.
                unsafe { cuda(kernel).launch((bound_of(step), offset), bound_of(bound), groups, stream) }?;
            }
            Command::Clear(buffer) => {
                let buffer = buffer.cuda();
                // SAFETY: the buffer has the bytes, and lives.
                unsafe { calls::cuMemsetD8Async(buffer.address(), 0, buffer.size() as usize, stream) }?;
            }
            Command::Copy { from: (from, from_byte), to: (to, to_byte), bytes } => {
                let (from, to) = (from.cuda(), to.cuda());
                let (from, to) = (from.address() + from_byte, to.address() + to_byte);
                // SAFETY: both buffers hold the bytes, and live.
                unsafe { calls::cuMemcpyDtoDAsync_v2(to, from, bytes as usize, stream) }?;
            }
        }
    }
    Ok(())
}

/// What tells a command from all others. The first two words are identities, except that nothing has the greatest one: so no
/// command is like one of another kind.
fn entry(command: &Command<'_>) -> Entry {
    match *command {
        Command::Run { kernel, call: (step, offset), bound, groups: (x, y) } => {
            let groups = u64::from(x) << 32 | u64::from(y);
            [cuda(kernel).id, bound_of(step).id, bound_of(bound).id, offset.into(), groups]
        }
        Command::Clear(buffer) => [buffer.cuda().id(), u64::MAX, 0, 0, 0],
        Command::Submit => [u64::MAX; 5],
        Command::Copy { from: (from, from_byte), to: (to, to_byte), bytes } => {
            [from.cuda().id(), to.cuda().id(), from_byte, to_byte, bytes]
        }
    }
}

fn cuda(kernel: &device::Kernel) -> &Kernel {
    match kernel {
        device::Kernel::Cuda(kernel) => kernel,
        device::Kernel::Portable(_) => unreachable!("{OWN}"),
    }
}

fn bound_of(bound: &device::Bound) -> &Bound {
    match bound {
        device::Bound::Cuda(bound) => bound,
        device::Bound::Portable(_) => unreachable!("{OWN}"),
    }
}
