// SPDX-License-Identifier: LGPL-2.1-or-later
// A server with a Selector on a Unix socket in one JVM, clients in another one, each a thread that checks every reply.

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Traffic {
	static final UnixDomainSocketAddress ADDRESS = UnixDomainSocketAddress.of("java.sock");
	static final int SIZE = 64;

	/** Replies to n, padded, with n * n + 1; ends when the last client has gone. */
	static void serve() throws IOException {
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
		listener.bind(ADDRESS);
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		int open = 0;
		do {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (key.isAcceptable()) {
					SocketChannel c = listener.accept();
					c.configureBlocking(false);
					c.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(SIZE));
					open++;
				} else if (!answer(key)) {
					open--;
				}
			}
			selector.selectedKeys().clear();
		} while (open > 0);
		Files.delete(ADDRESS.getPath());
	}

	static boolean answer(SelectionKey key) throws IOException {
		SocketChannel c = (SocketChannel) key.channel();
		ByteBuffer b = (ByteBuffer) key.attachment();
		if (c.read(b) < 0) {
			c.close();
			return false;
		}
		if (!b.hasRemaining()) {
			long n = b.getLong(0);
			b.clear();
			b.putLong(0, n * n + 1);
			while (b.hasRemaining())
				c.write(b);
			b.clear();
		}
		return true;
	}

	static long ask(int number, int count) throws IOException {
		long sum = 0;
		try (SocketChannel c = SocketChannel.open(ADDRESS)) {
			ByteBuffer b = ByteBuffer.allocate(SIZE);
			for (long i = 0; i < count; i++) {
				long n = i * 7 + number;
				b.clear();
				b.putLong(0, n);
				while (b.hasRemaining())
					c.write(b);
				b.clear();
				while (b.hasRemaining())
					if (c.read(b) < 0)
						throw new IOException("the server hung up");
				if (b.getLong(0) != n * n + 1)
					throw new IOException("wrong reply to " + n + ": " + b.getLong(0));
				sum = sum * 31 + b.getLong(0);
			}
		}
		return sum;
	}

	static void clients(int clients, int count) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(clients);
		List<Future<Long>> found = new ArrayList<>();
		for (int i = 0; i < clients; i++) {
			int number = i;
			Callable<Long> work = () -> ask(number, count);
			found.add(pool.submit(work));
		}
		StringBuilder text = new StringBuilder();
		for (Future<Long> f : found)
			text.append(f.get()).append('\n');
		pool.shutdown();
		Files.writeString(Path.of("result"), text);
	}

	static Process start(String... args) throws IOException {
		List<String> command = new ArrayList<>(List.of("java", "-XX:-UsePerfData", "-Xmx64m", "-cp", ".", "Traffic"));
		command.addAll(List.of(args));
		return new ProcessBuilder(command).inheritIO().start();
	}

	public static void main(String[] args) throws Exception {
		if (args[0].equals("serve")) {
			serve();
		} else if (args[0].equals("clients")) {
			clients(Integer.parseInt(args[1]), Integer.parseInt(args[2]));
		} else {
			Process server = start("serve");
			while (!Files.exists(ADDRESS.getPath()))
				Thread.sleep(10);
			Process clients = start("clients", args[0], args[1]);
			int status = clients.waitFor() + server.waitFor();
			System.exit(status);
		}
	}
}
