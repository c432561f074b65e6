// SPDX-License-Identifier: LGPL-2.1-or-later
// A JVM under load: several threads, garbage, a compiler at work, timed waits, locks.
import java.io.PrintWriter;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Load {
	static String work(int n) throws Exception {
		MessageDigest digest = MessageDigest.getInstance("SHA-256");
		TreeMap<String, byte[]> map = new TreeMap<>();
		long x = n;
		for (int i = 0; i < 4000; i++) {
			x = x * 6364136223846793005L + 1442695040888963407L;
			map.put(Long.toHexString(x), new byte[(int) (x >>> 56) + 1]);
			if (map.size() > 1000)
				digest.update(map.pollFirstEntry().getKey().getBytes("UTF-8"));
			if (i % 1000 == 0)
				Thread.sleep(1);
		}
		for (String key : map.keySet())
			digest.update(key.getBytes("UTF-8"));
		StringBuilder hex = new StringBuilder();
		for (byte b : digest.digest())
			hex.append(String.format("%02x", b));
		return hex.toString();
	}

	public static void main(String[] args) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<String>> results = new ArrayList<>();
		for (int i = 0; i < Integer.parseInt(args[1]); i++) {
			final int n = i;
			results.add(pool.submit(() -> work(n)));
		}
		try (PrintWriter out = new PrintWriter(args[0])) {
			for (Future<String> result : results)
				out.println(result.get());
		}
		pool.shutdown();
	}
}
